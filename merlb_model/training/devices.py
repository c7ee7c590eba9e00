"""On what a training runs: one device, several GPUs, or several machines; and with how many bits."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from merlb_model.errors import MerlbError


def prepare_devices(tf_config: str | None) -> tf.distribute.Strategy:
    """Let GPUs take memory as they need it, and say how the training is spread. Call it before TensorFlow does a thing.

    Args:
        tf_config: the content of ``TF_CONFIG``, as Kubeflow's training operator and others set it in each worker:
            ``{"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}``.

    Returns:
        ``MultiWorkerMirroredStrategy`` where ``tf_config`` names more than one worker, ``MirroredStrategy`` where
        more than one GPU is visible, else the default.

    Raises:
        MerlbError: ``tf_config`` is not of that form.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        with contextlib.suppress(RuntimeError):  # a process that has used its GPUs keeps its way with their memory
            tf.config.experimental.set_memory_growth(gpu, True)
    cluster = _cluster(tf_config)
    if cluster is not None:
        ways = tf.distribute.experimental.CommunicationImplementation
        options = tf.distribute.experimental.CommunicationOptions(implementation=ways.AUTO if gpus else ways.RING)
        return tf.distribute.MultiWorkerMirroredStrategy(cluster, options)
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def _cluster(tf_config: str | None) -> Any:
    """The cluster that ``tf_config`` describes, None for a single worker."""
    try:
        content = json.loads(tf_config or "{}")
        cluster = content.get("cluster", {})
        if sum(len(cluster.get(kind, ())) for kind in ("chief", "worker")) < 2:
            return None
        kind, index = str(content["task"]["type"]), int(content["task"]["index"])
        if not 0 <= index < len(cluster[kind]):
            raise ValueError(f"no {kind} {index} in the cluster")
        spec = tf.train.ClusterSpec(cluster)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MerlbError(
            f"TF_CONFIG={' '.join(str(tf_config).split())}: {type(error).__name__}: {error}; expected "
            '{"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}; mend or unset it'
        ) from None
    return tf.distribute.cluster_resolver.SimpleClusterResolver(spec, task_type=kind, task_id=index, rpc_layer="grpc")


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes files and logs: the chief, or worker 0 where none is called so."""
    cluster = strategy.cluster_resolver
    if cluster is None or not cluster.task_type:
        return True
    has_chief = "chief" in cluster.cluster_spec().jobs
    return bool(cluster.task_type == "chief" or (not has_chief and cluster.task_id == 0))


def agreed(numbers: Mapping[str, float]) -> dict[str, float]:
    """The mean over all workers of what each of them found: the same everywhere, so that all decide alike."""
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1 or not numbers:
        return dict(numbers)

    @tf.function
    def mean(values: tf.Tensor) -> tf.Tensor:
        def reduce(values: tf.Tensor) -> tf.Tensor:
            here = tf.identity(values)  # on the replica's device, which the reduction asks for
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, here)

        return strategy.experimental_local_results(strategy.run(reduce, (values,)))[0]

    means = mean(tf.constant(list(numbers.values()), tf.float64)).numpy()
    return {name: float(value) for name, value in zip(numbers, means, strict=True)}


def synchronize_norms(network: keras.Model, synchronized: bool) -> None:
    """Let all batch norms of ``network`` take their statistics over all replicas, or over their own."""
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = synchronized


def has_gpu() -> bool:
    return bool(tf.config.list_physical_devices("GPU"))


@contextlib.contextmanager
def arithmetic(of_16_bits: bool) -> Iterator[None]:
    """Layers made within compute with 16 bits, their weights of 32, where ``of_16_bits``."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16" if of_16_bits else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def computes_with_16_bits(network: keras.Model) -> bool:
    return bool(network.compute_dtype == "float16")
