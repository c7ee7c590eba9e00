"""The training loop: a step, an epoch, the epochs up to the best one. It knows nothing of stores and stages."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import pandas as pd
import tensorflow as tf

from merlb_model.errors import MerlbError
from merlb_model.params import ModelParams, TrainParams
from merlb_model.tracking import NoRun, RunLog
from merlb_model.training.augment import Windows, withhold
from merlb_model.training.checkpoints import Best, Checkpoint, Progress
from merlb_model.training.devices import agreed, computes_with_16_bits, synchronize_norms
from merlb_model.training.losses import ClassWeights, window_losses

_LAST_RATE_SHARE = 0.02
_MUCH_WAITING = 0.05  # share of an epoch's time from which on waiting for batches is worth a word

Batches = Iterable[tuple[Any, Any]]
Source = Callable[[int], Batches]
"""Number of the epoch, from 1 → its batches of (windows, targets)."""
Change = Callable[[Windows, tf.Tensor], Windows]
"""(windows, seed i64 [2], another one each step) → the windows, changed."""
Score = Callable[[], Mapping[str, float]]


def run_epochs(
    network: keras.Model,
    source: Source,
    score: Score,
    model: ModelParams,
    params: TrainParams,
    steps: int,
    change: Change | None = None,
    weights: ClassWeights | None = None,
    log: RunLog | None = None,
    checkpoint: Checkpoint | None = None,
    say: bool = True,
) -> pd.DataFrame:
    """Train ``network``, leave it with the weights of its best epoch, and return a table of one row an epoch.

    The network may be any that ends in logits: the whole one, or one that starts at kept features. Under a
    ``tf.distribute`` strategy call it within the strategy's scope, in which the network was made.

    Args:
        network: {windows…, ``present`` f32 [B, 3]} → {task: logits [B, classes]}.
        source: the batches of an epoch. A ``tf.data.Dataset`` of (windows, targets {task: i64 [B]}), or what the
            strategy distributes: each replica its share of every batch. The same number gives the same batches,
            else a training that was killed does not go on as it would have.
        score: called after each epoch: what goes into the history beside ``loss``. ``validation_macro_f1``, ties by
            ``validation_loss``, decides which epoch is best; without it the last one is.
        model: the section ``model``, for the modalities that may be withheld.
        params: the section ``train``.
        steps: batches an epoch, for the schedule of the rate.
        change: done to each training batch's windows, e.g. ``augment``.
        weights: of the classes, where ``params.loss`` takes such.
        log: the run that is told of each epoch; beside the history of ``waiting`` too, the share of an epoch's time in
            which the step waited for its batch, which no two trainings have alike.
        checkpoint: where the training is kept after each epoch, and taken up where one is kept.
        say: a line an epoch on stderr.

    Returns:
        The columns ``epoch``, ``loss`` (the mean over the steps) and what ``score`` gave.

    Raises:
        MerlbError: a loss is no number.
    """
    log = log or NoRun()
    optimizer = optimizer_of(params, steps)
    if computes_with_16_bits(network):
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    step = training_step(network, optimizer, model, params, change, weights, getattr(source(1), "element_spec", None))
    progress = _taken_up(checkpoint, network, optimizer, params, say)
    started, first = time.monotonic(), progress.epoch + 1
    for epoch in range(first, params.epochs + 1):
        if progress.epoch - progress.best.epoch >= params.patience:
            break
        batches, began = Waits(source(epoch)), time.monotonic()
        loss = train_epoch(step, batches, epoch)
        waiting = batches.seconds / (time.monotonic() - began)
        entry = {"loss": loss, **agreed(score())}
        log.metrics({**entry, "waiting": waiting}, step=epoch)
        progress.history.append({"epoch": epoch, **entry})
        progress.epoch = epoch
        keep_if_best(progress.best, network, epoch, entry)
        if checkpoint is not None:
            checkpoint.save(network, optimizer, progress)
        if say:
            left = (time.monotonic() - started) / (epoch + 1 - first) * (params.epochs - epoch)
            _say(progress, params.epochs, waiting, left)
    network.set_weights(progress.best.weights)
    log.metrics({"best_epoch": progress.best.epoch})
    return pd.DataFrame(progress.history)


def _taken_up(
    checkpoint: Checkpoint | None,
    network: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    params: TrainParams,
    say: bool,
) -> Progress:
    """Where the training stands.

    Raises:
        MerlbError: it stands elsewhere for another worker.
    """
    if checkpoint is None:
        return Progress()
    progress = checkpoint.restore(network, optimizer)
    if agreed({"epoch": progress.epoch})["epoch"] != progress.epoch:
        raise MerlbError(
            f"train: {checkpoint.path} ends at epoch {progress.epoch}, another worker's elsewhere: give all workers "
            "the same folder, or remove it"
        )
    if progress.epoch and say:
        sys.stderr.write(f"  continues at epoch {progress.epoch + 1} of {params.epochs}\n")
    return progress


def optimizer_of(params: TrainParams, steps: int) -> keras.optimizers.Optimizer:
    """Adam, its rate rising from 0 over ``params.warmup_epochs``, then falling down a cosine to a fiftieth.

    Args:
        params: the section ``train``; ``clip_norm`` bounds the norm of all gradients together.
        steps: batches an epoch.
    """
    rising = round(params.warmup_epochs * steps)
    falling = max(params.epochs * steps - rising, 1)
    rate = params.learning_rate
    if rising:
        schedule = keras.optimizers.schedules.CosineDecay(0.0, falling, _LAST_RATE_SHARE, "rate", rate, rising)
    else:
        schedule = keras.optimizers.schedules.CosineDecay(rate, falling, _LAST_RATE_SHARE)
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    bound = None if params.clip_norm is None else params.clip_norm / replicas  # it sees gradients / replicas
    return keras.optimizers.Adam(schedule, global_clipnorm=bound)


def training_step(
    network: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    model: ModelParams,
    params: TrainParams,
    change: Change | None = None,
    weights: ClassWeights | None = None,
    batch_spec: Any = None,
) -> Callable[..., tf.Tensor]:
    """A step on one batch: (windows, targets, number of the step) → loss, f32, before the step.

    The loss is the mean over the batch's windows (``losses.window_losses``) plus the network's own terms (L2). Several
    replicas each take their share of the batch; the loss and the step are those of the whole.

    ``batch_spec``, the ``element_spec`` of the batches, lets one traced step serve batches of every size. Workers need
    it: one that traced again for its smaller share of a last batch would no longer be in step with the others.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    synchronize_norms(network, replicas > 1)
    optimizer.build(network.trainable_variables)
    losses = window_losses(params, weights)

    def changed(windows: Windows, number: tf.Tensor) -> Windows:
        seed = tf.stack([tf.constant(params.seed, tf.int64), number])
        if replicas > 1:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(replica, tf.int64))
        if change is not None:
            windows = change(windows, seed)
        return withhold(windows, params.modality_dropout, model.modalities, seed)

    def on_replica(windows: Windows, targets: dict[str, tf.Tensor], number: tf.Tensor) -> tf.Tensor:
        windows = changed(windows, number)
        variables = network.trainable_variables
        with tf.GradientTape() as tape:
            each = losses(targets, network(windows, training=True))
            loss = tf.reduce_sum(each) / _sum(tf.cast(tf.size(each), tf.float32), replicas)
            loss = tf.add_n([loss, *(term / replicas for term in network.losses)])
            scaled = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, variables)
        if replicas > 1:
            # Summed before the optimizer clips them and looks whether they are finite; it sums once more.
            gradients = [gradient / replicas for gradient in _sum(gradients, replicas)]
        optimizer.apply(gradients, variables)
        return _sum(loss, replicas)

    # XLA makes a step on a CPU slower.
    signature = None if batch_spec is None else (*batch_spec, tf.TensorSpec((), tf.int64))

    @tf.function(input_signature=signature, reduce_retracing=True, jit_compile=False)
    def step(windows: Windows, targets: dict[str, tf.Tensor], number: tf.Tensor) -> tf.Tensor:
        return strategy.experimental_local_results(strategy.run(on_replica, (windows, targets, number)))[0]

    return step


def _sum(values: Any, replicas: int) -> Any:
    """Sum over the replicas."""
    if replicas == 1:
        return values
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


class Waits:
    """Passes batches on, and sums up the seconds that it took to get them."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self.seconds = 0.0

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        began = time.monotonic()
        for batch in self._batches:
            self.seconds += time.monotonic() - began
            yield batch
            began = time.monotonic()


def train_epoch(step: Callable[..., tf.Tensor], batches: Batches, epoch: int) -> float:
    """Run ``step`` over all batches and return the mean loss.

    Raises:
        MerlbError: a loss is no number.
    """
    total, count = 0.0, 0
    for number, (windows, targets) in enumerate(batches):
        loss = float(step(windows, targets, tf.constant((epoch << 32) + number, tf.int64)))
        if not math.isfinite(loss):
            raise MerlbError(
                f"train: the loss is {loss} in epoch {epoch}, batch {number + 1}: lower train.learning_rate, or look "
                "for broken clips with `merlb validate`"
            )
        total, count = total + loss, count + 1
    return total / count


def keep_if_best(best: Best, network: keras.Model, epoch: int, entry: Mapping[str, float]) -> None:
    """Keep the weights of an epoch that is better than those before; without validation rows, of the last."""
    score = (entry.get("validation_macro_f1", float(epoch)), -entry.get("validation_loss", 0.0))
    if score > best.score:
        best.epoch, best.score, best.weights = epoch, score, network.get_weights()


def _say(progress: Progress, epochs: int, waiting: float, seconds_left: float) -> None:
    entry, score = progress.history[-1], ""
    if "validation_macro_f1" in entry:
        score = f", validation macro-F1 {entry['validation_macro_f1']:.3f} (best {progress.best.score[0]:.3f})"
    waited = f", {waiting:.0%} of it waiting for batches" if waiting > _MUCH_WAITING else ""
    left = f"at most {seconds_left:.0f} s left"
    sys.stderr.write(f"  epoch {progress.epoch}/{epochs}: loss {entry['loss']:.3f}{score}{waited}, {left}\n")
    sys.stderr.flush()
