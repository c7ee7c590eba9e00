"""The network that the original MERLB code builds, to measure against.

Its sizes are facts of the published repository https://github.com/swerizwan/MERLB (Abbas, Schuller, Li, Lin, Li 2025,
doi 10.1007/s00530-025-01780-y); the code is this project's own. The tensor train starts with variance, which is kinder
than the original: there the fused vector starts at nothing.
"""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from merlb_model.dataset.store import SHAPES
from merlb_model.labels import TASKS
from merlb_model.nn import keras, tf
from merlb_model.nn.inception_dense import EachStep
from merlb_model.nn.tensor_train import TensorTrainFusion

layers = keras.layers
FACE_BLOCKS = ((64, 256), (256, 512))
SCREEN_BLOCKS = ((64, 128), (128, 256), (256, 512))
AUDIO_FEATURES = 512
UNITS = 128
DROPOUT = 0.2


class OuterProductFusion(TensorTrainFusion):
    """The same numbers the published way: the outer product of 129³ is formed, then met by one core after another."""

    def call(self, vectors: Sequence[Any]) -> Any:
        return materialised(self, vectors)


def materialised(layer: TensorTrainFusion, vectors: Sequence[Any]) -> Any:
    """``layer``'s answer the published way: form the outer product, contract it from the last core on.

    After Novikov et al. 2015; 94.55 M multiply-adds a clip. What is left is [columns so far, batch, modes, rank]: each
    core takes the last mode with its rank, and its columns go in front.
    """
    face, screen, audio = (tf.pad(vector, [[0, 0], [1, 0]], constant_values=1.0) for vector in vectors)
    rest = face[:, :, None, None] * screen[:, None, :, None] * audio[:, None, None, :]
    for core in reversed(layer.cores):
        left, rows, columns, right = core.shape
        kernel = tf.reshape(tf.transpose(core, [1, 3, 0, 2]), (rows * right, left * columns))
        answers = tf.matmul(tf.reshape(rest, (-1, rows * right)), kernel)
        rest = tf.transpose(tf.reshape(answers, (-1, columns)))
    return tf.transpose(tf.reshape(rest, (prod(layer.output_modes), -1)))


def original_network(*, time_distributed: bool, outer_product: bool) -> keras.Model:
    """A fresh network: f32 inputs ``face`` [B,20,64,64,3], ``screen`` [B,20,128,128,3], ``audio`` [B,20,5512,1].

    Args:
        time_distributed: run the encoders step by step, as published; else with time folded into the batch.
        outer_product: fuse the published way; else factor by factor.

    Returns:
        A model with the outputs {task: f32 probabilities [B, classes]}.
    """
    each_step: Callable[[keras.Model], Any] = layers.TimeDistributed if time_distributed else EachStep
    shapes = {**SHAPES, "audio": (*SHAPES["audio"], 1)}
    encoders = {"face": residual_encoder, "screen": residual_encoder, "audio": audio_encoder}
    sizes = {"face": FACE_BLOCKS, "screen": SCREEN_BLOCKS, "audio": AUDIO_FEATURES}
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    vectors = []
    for name, steps in inputs.items():
        features = each_step(encoders[name](shapes[name][1:], sizes[name]))(steps)
        features = layers.Dropout(DROPOUT)(layers.BatchNormalization()(features))
        vectors.append(layers.LSTM(UNITS)(layers.LSTM(UNITS, return_sequences=True)(features)))
    fused = layers.ReLU()((OuterProductFusion if outer_product else TensorTrainFusion)()(vectors))
    fused = layers.Dropout(DROPOUT)(layers.BatchNormalization()(fused))
    heads = {
        task: layers.Dense(len(labels), activation="softmax", name=task)(layers.Dense(UNITS, activation="relu")(fused))
        for task, labels in TASKS.items()
    }
    return keras.Model(inputs, heads, name="original")


def residual_encoder(shape: tuple[int, ...], blocks: tuple[tuple[int, int], ...]) -> keras.Model:
    """Network of one frame: a stem, two bottleneck blocks a size (the first halves the map), the mean of the map."""
    frame = keras.Input(shape)
    maps = layers.Conv2D(64, 7, 2)(layers.ZeroPadding2D(3)(frame))
    maps = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(_norm_relu(maps)))
    for narrow, wide in blocks:
        shortcut = layers.BatchNormalization()(layers.Conv2D(wide, 1, 2)(maps))
        maps = layers.ReLU()(layers.Add()([_bottleneck(maps, narrow, wide, strides=2), shortcut]))
        fresh = layers.BatchNormalization()(_bottleneck(maps, narrow, wide))
        maps = layers.ReLU()(layers.Add()([fresh, maps]))
    return keras.Model(frame, layers.GlobalAveragePooling2D()(maps))


def _bottleneck(maps: Any, narrow: int, wide: int, strides: int = 1) -> Any:
    maps = _norm_relu(layers.Conv2D(narrow, 1, strides)(maps))
    maps = _norm_relu(layers.Conv2D(narrow, 3, padding="same")(maps))
    return layers.Conv2D(wide, 1)(maps)


def _norm_relu(maps: Any) -> Any:
    return layers.ReLU()(layers.BatchNormalization()(maps))


def audio_encoder(shape: tuple[int, ...], features: int) -> keras.Model:
    """Network of one slice's waveform."""
    wave = keras.Input(shape)
    maps = wave
    for _ in range(3):
        maps = layers.Conv1D(128, 5, padding="same", activation="relu")(maps)
        maps = layers.BatchNormalization()(layers.MaxPooling1D(8)(maps))
    return keras.Model(wave, layers.Dense(features, activation="relu")(layers.Flatten()(maps)))
