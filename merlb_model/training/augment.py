"""Changes to training windows that leave their meaning: drawn for each clip, from a seed a step."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from merlb_model.labels import MODALITIES
from merlb_model.nn.spec_augment import SpecAugment

Windows = dict[str, tf.Tensor]
_CONTRAST = 0.2  # most by which a clip's contrast is changed, as a share
_LIGHT = 20.0  # most by which a clip is lighter or darker, of 255
_MIXING = 0.4  # most of a colour channel that goes into another, as a share
_FACE_SHIFT = 4  # most by which a clip's faces are moved each way, in pixels of 64
_SCREEN_SHIFT = 12  # the same for screens, in pixels of 128
_SPEED = 0.12  # most by which a clip's sound is played faster or slower, as a share: another voice, the same melody
_GAIN_DB = 2.0  # most by which a clip's sound is louder or softer


def _seed(seed: tf.Tensor, number: int) -> tf.Tensor:
    """A seed of its own for the draw ``number`` of a step."""
    return tf.random.experimental.stateless_fold_in(seed, number)


def augment(windows: Windows, seed: tf.Tensor) -> Windows:
    """Other colours, mirrored and moved frames, another voice; one draw a clip, so that motion stays what it was.

    Args:
        windows: ``face`` u8 and ``screen`` u8 [B, T, height, width, 3], ``audio`` i16 [B, T, samples],
            and whatever else.
        seed: i64 [2], another one each step.

    Returns:
        The windows, of the same types.
    """
    changed = {}
    for number, (name, reach) in enumerate((("face", _FACE_SHIFT), ("screen", _SCREEN_SHIFT))):
        own = _seed(seed, number)
        frames = _moved(windows[name], reach, own)
        changed[name] = _recoloured(frames, own)
    changed["audio"] = _replayed(windows["audio"], _seed(seed, len(changed)))
    return {**windows, **changed}


def _moved(frames: tf.Tensor, reach: int, seed: tf.Tensor) -> tf.Tensor:
    """Clips moved by up to ``reach`` pixels each way, half of them mirrored left to right.

    What leaves at one edge comes in at the other.
    """
    clips = tf.shape(frames)[0]
    shifts = tf.random.stateless_uniform((clips, 2), _seed(seed, 0), -reach, reach + 1, tf.int32)
    mirrored = tf.random.stateless_uniform((clips,), _seed(seed, 1)) < 0.5

    def change(clip: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
        one, shift, mirror = clip
        return tf.roll(tf.cond(mirror, lambda: tf.reverse(one, [2]), lambda: one), shift, [1, 2])

    return tf.map_fn(change, (frames, shifts, mirrored), fn_output_signature=frames.dtype)


def _recoloured(frames: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mix the colour channels, change contrast about mid-grey and add light."""
    clips, shape = tf.shape(frames)[0], tf.shape(frames)
    contrast = tf.random.stateless_uniform((clips, 1, 1), _seed(seed, 2), 1 - _CONTRAST, 1 + _CONTRAST)
    light = tf.random.stateless_uniform((clips, 1, 1), _seed(seed, 3), -_LIGHT, _LIGHT)
    mixing = tf.random.stateless_uniform((clips, 3, 3), _seed(seed, 4), -_MIXING, _MIXING)
    mixing = contrast * (tf.eye(3) + mixing - tf.reduce_mean(mixing, axis=1, keepdims=True))  # grey stays grey
    pixels = tf.matmul(tf.cast(tf.reshape(frames, (clips, -1, 3)), tf.float32), mixing)
    lit = pixels + (light + 128.0 * (1.0 - contrast))
    return tf.reshape(tf.cast(tf.clip_by_value(lit, 0.0, 255.0), tf.uint8), shape)


def _replayed(slices: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Sound begun elsewhere, played faster or slower and louder or softer: i16 [B, T, samples] → the same.

    What lies before the new beginning comes at the end.
    """
    clips, shape = tf.shape(slices)[0], tf.shape(slices)
    waves = tf.cast(tf.reshape(slices, (clips, -1)), tf.float32)
    samples = tf.shape(waves)[1]
    start = tf.random.stateless_uniform((clips, 1), _seed(seed, 0), 0.0, tf.cast(samples, tf.float32))
    speed = tf.random.stateless_uniform((clips, 1), _seed(seed, 1), 1 - _SPEED, 1 + _SPEED)
    gain = 10 ** (tf.random.stateless_uniform((clips, 1), _seed(seed, 2), -_GAIN_DB, _GAIN_DB) / 20)
    moments = start + speed * tf.cast(tf.range(samples), tf.float32)
    before = tf.cast(moments, tf.int32)
    share = moments - tf.cast(before, tf.float32)
    near = tf.gather(waves, before % samples, batch_dims=1)
    far = tf.gather(waves, (before + 1) % samples, batch_dims=1)
    sound = gain * (near + share * (far - near))
    return tf.reshape(tf.cast(tf.clip_by_value(sound, -32_768.0, 32_767.0), tf.int16), shape)


def withhold(windows: Windows, share: float, modalities: Sequence[str], seed: tf.Tensor) -> Windows:
    """Call each modality absent in a ``share`` of the clips, so that a model learns to do without; never the last one.

    Args:
        windows: with ``present`` f32 [B, 3].
        share: of the clips, drawn for each modality on its own.
        modalities: those that the model uses; with one alone nothing is withheld.
        seed: i64 [2], another one each step.
    """
    if share <= 0 or len(modalities) < 2:
        return windows
    present = windows["present"]
    used = tf.constant([[float(name in modalities) for name in MODALITIES]])
    kept = present * tf.cast(tf.random.stateless_uniform(tf.shape(present), _seed(seed, 3)) >= share, tf.float32)
    something_left = tf.reduce_any(kept * used > 0, axis=-1, keepdims=True)
    return {**windows, "present": tf.where(something_left, kept, present)}


def set_spec_augment(network: keras.Model, active: bool) -> None:
    """Let every ``SpecAugment`` in ``network`` mask in training, or none. What is traced already stays as it is."""
    for layer in network._flatten_layers():
        if isinstance(layer, SpecAugment):
            layer.active = active
