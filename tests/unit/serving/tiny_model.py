"""For tests of serving: windows of noise, and a SavedModel of the real one's signatures with nothing to train."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merlb_model.dataset.store import SHAPES
from merlb_model.files import write_json
from merlb_model.labels import TASKS

INFO: dict[str, Any] = {
    "schema_version": 1,
    "store_hash": "5" * 64,
    "weights_hash": "e" * 64,
    "git": "0123abc",
    "tasks": {task: list(classes) for task, classes in TASKS.items()},
    "temperature": dict.fromkeys(TASKS, 1.0),
    "prior": {task: [1 / len(classes)] * len(classes) for task, classes in TASKS.items()},
}


def write_tiny_model(folder: Path) -> Path:
    """Write the model into ``folder``; each modality moves the answer, and so does the order of its steps."""
    importlib.import_module("merlb_model.nn")  # brings TensorFlow in without its noise
    import tensorflow as tf

    class Tiny(tf.Module):
        def features(self, face, screen, audio):
            """Audio of n + 1 slices gives n steps: a step's segment is its slice and the one before."""
            level = tf.reduce_mean(tf.abs(tf.cast(audio, tf.float32)) / 32768.0, axis=2)
            return {
                "face": tf.reduce_mean(tf.cast(face, tf.float32) / 255.0, axis=[2, 3]),
                "screen": tf.reduce_mean(tf.cast(screen, tf.float32) / 255.0, axis=[2, 3]),
                "audio": tf.stack([level[:, :-1], level[:, 1:]], axis=2),
            }

        def answer(self, face, screen, audio, present):
            segments = audio[:, 1:]
            answers = {}
            for number, (task, classes) in enumerate(TASKS.items()):
                logits = tf.zeros((tf.shape(face)[0], len(classes)))
                for place, vectors in enumerate((face, screen, segments)):
                    steps, width = vectors.shape[1], vectors.shape[2]
                    weights = tf.reshape(
                        tf.sin(tf.range(steps * width * len(classes), dtype=tf.float32) + 7.0 * place + number),
                        (steps * width, len(classes)),
                    )
                    flat = tf.reshape(vectors, (-1, steps * width))
                    logits += present[:, place : place + 1] * tf.linalg.matmul(flat, weights)
                answers[task] = tf.nn.softmax(logits)
            return answers

        @tf.function
        def masked(self, face, screen, audio, present):
            context = tf.concat([tf.zeros_like(audio[:, :1]), audio], axis=1)
            return self.answer(**self.features(face, screen, context), present=present)

        @tf.function
        def serving_default(self, face, screen, audio):
            return self.masked(face, screen, audio, tf.ones((tf.shape(face)[0], 3)))

        @tf.function
        def encode(self, face, screen, audio):
            return self.features(face, screen, audio)

        @tf.function
        def fuse(self, face, screen, audio, present):
            return self.answer(face, screen, audio, present)

    def inputs(frames: int, slices: int) -> dict[str, Any]:
        return {
            "face": tf.TensorSpec((None, frames, 64, 64, 3), tf.uint8, "face"),
            "screen": tf.TensorSpec((None, frames, 128, 128, 3), tf.uint8, "screen"),
            "audio": tf.TensorSpec((None, slices, 5512), tf.int16, "audio"),
        }

    tiny = Tiny()
    present = tf.TensorSpec((None, 3), tf.float32, "present")
    widths = {"face": 3, "screen": 3, "audio": 2}
    steps = {name: tf.TensorSpec((None, 20, width), tf.float32, name) for name, width in widths.items()}
    signatures = {
        "serving_default": tiny.serving_default.get_concrete_function(**inputs(20, 20)),
        "masked": tiny.masked.get_concrete_function(**inputs(20, 20), present=present),
        "encode": tiny.encode.get_concrete_function(**inputs(4, 5)),
        "fuse": tiny.fuse.get_concrete_function(**steps, present=present),
    }
    tf.saved_model.save(tiny, str(folder), signatures=signatures)
    write_json(folder / "merlb.json", INFO)
    return folder


def make_windows(count: int, seed: int = 0) -> dict[str, NDArray]:
    """``count`` windows of noise whose level differs by window and step."""
    random = np.random.default_rng(seed)
    level = random.random((count, 20))
    return {
        "face": (random.random((count, *SHAPES["face"])) * level[:, :, None, None, None] * 255).astype(np.uint8),
        "screen": (random.random((count, *SHAPES["screen"])) * level[:, ::-1, None, None, None] * 255).astype(np.uint8),
        "audio": (random.uniform(-1, 1, (count, *SHAPES["audio"])) * level[:, :, None] * 32767).astype(np.int16),
    }
