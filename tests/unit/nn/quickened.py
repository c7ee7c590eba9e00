"""Fresh fusions that answer as trained ones do, for tests of what they make of their inputs."""

from merlb_model.nn import keras
from merlb_model.nn.tensor_train import TensorTrainFusion


def quicken(fuse: keras.Model) -> keras.Model:
    """Let one batch do for the norms what epochs do: their statistics become those of the next batch in training.

    merlb's products, which start far below its norm's epsilon and grow out of it, are large at once.
    """
    for layer in fuse.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
        if isinstance(layer, TensorTrainFusion):
            layer.set_weights([5 * core for core in layer.get_weights()])
    return fuse
