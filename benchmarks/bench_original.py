"""A training step and an inference of this project's networks against the original's, a clip, by the batch's size.

The original's is measured as published (TimeDistributed, the outer product formed), with its fusion contracted factor
by factor, and with time folded into the batch too. All take the same loss and optimiser; augmentation is no part of a
step.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from interleaved import medians
from original_networks import original_network

from merlb_model.labels import MODALITIES, TASKS
from merlb_model.nn import keras, tf
from merlb_model.nn.model import PRESETS, build_model
from merlb_model.params import ModelParams

BATCHES = (4, 16)
"""A small one, at which what a step costs whatever its batch weighs most, and that of params.yaml."""
SEED = 7
Windows = dict[str, tf.Tensor]


def main() -> None:
    keras.utils.set_random_seed(SEED)
    networks = {
        "original": original_network(time_distributed=True, outer_product=True),
        "original, factored": original_network(time_distributed=True, outer_product=False),
        "original, factored, folded": original_network(time_distributed=False, outer_product=False),
        **{name: _preset(name) for name in PRESETS},
    }
    for name, network in networks.items():
        print(f"{name}: {network.count_params() / 1e6:.2f} million parameters")
    for batch in BATCHES:
        _compare(networks, batch)


def _compare(networks: dict[str, keras.Model], batch: int) -> None:
    windows = {name: _windows(network, batch) for name, network in networks.items()}
    steps = {
        name: _training_step(network, windows[name], batch, from_logits=name in PRESETS)
        for name, network in networks.items()
    }
    answers = {name: _inference(network, windows[name]) for name, network in networks.items()}
    _print(f"a training step at batch {batch}", medians(*steps.values(), rounds=5), batch, list(networks))
    _print(f"an inference at batch {batch}", medians(*answers.values(), rounds=5), batch, list(networks))


def _preset(name: str) -> keras.Model:
    mels = PRESETS[name].audio.mels
    level = {"mean": [-4.0] * mels, "deviation": [3.0] * mels}
    prior = {task: [1 / len(labels)] * len(labels) for task, labels in TASKS.items()}
    return build_model(ModelParams(preset=name), level, prior, SEED)


def _windows(network: keras.Model, batch: int) -> Windows:
    """Noise of the network's own input types: levels from 0 to 1 for floats, all presences 1."""
    random = np.random.default_rng(SEED)
    windows = {"present": tf.ones((batch, len(MODALITIES)))} if "present" in network.input else {}
    for name in MODALITIES:
        given = network.input[name]
        shape = (batch, *given.shape[1:])
        noise = random.random(shape) if given.dtype == "float32" else random.integers(0, 256, shape)
        windows[name] = tf.constant(noise, given.dtype)
    return windows


def _training_step(network: keras.Model, windows: Windows, batch: int, *, from_logits: bool) -> Callable[[], object]:
    optimizer = keras.optimizers.Adam(5e-4)
    optimizer.build(network.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    targets = {task: tf.range(batch) % len(labels) for task, labels in TASKS.items()}

    @tf.function(jit_compile=False)
    def step(given: Windows) -> tf.Tensor:
        with tf.GradientTape() as tape:
            answers = network(given, training=True)
            loss = tf.add_n([loss_of(targets[task], answers[task]) for task in TASKS])
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return loss

    return lambda: step(windows).numpy()


def _inference(network: keras.Model, windows: Windows) -> Callable[[], object]:
    answer = tf.function(lambda given: network(given, training=False), jit_compile=False)
    return lambda: {task: values.numpy() for task, values in answer(windows).items()}


def _print(what: str, seconds: tuple[float, ...], batch: int, names: list[str]) -> None:
    table = {name: {"seconds": each / batch} for name, each in zip(names, seconds, strict=True)}
    for row in table.values():
        row |= {f"{original} / it": table[original]["seconds"] / row["seconds"] for original in names[:3]}
    print(f"{what}, a clip")
    print(pd.DataFrame(table).T.round(4).to_string())


if __name__ == "__main__":
    main()
