"""The exported model, ready to be called from Python with NumPy arrays."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from merlb_model.dataset.store import SHAPES, STEPS
from merlb_model.errors import MerlbError
from merlb_model.files import read_json
from merlb_model.labels import MODALITIES, TASKS

SCHEMA_VERSION: Final = 1
STEPS_PER_SECOND: Final = 4
GOLDEN_TOLERANCE: Final = 0.02
"""Largest difference of a probability: other hardware rounds otherwise, a damaged or mixed-up model is further off."""
SIGNATURES: Final = ("serving_default", "masked", "encode", "fuse")

Features = dict[str, NDArray[np.float32]]
Scores = dict[str, NDArray[np.float32]]


def newest_version(root: Path) -> Path:
    """The folder of the highest number in ``root``.

    Raises:
        MerlbError: there is none.
    """
    versions = [folder for folder in root.glob("[0-9]*") if folder.name.isdecimal() and folder.is_dir()]
    if not versions:
        raise MerlbError(f"{root}: no served model there: run `merlb promote` after `merlb export`")
    return max(versions, key=lambda folder: int(folder.name))


def find_model(path: Path) -> Path:
    """``path`` itself where it is an exported model, else the newest version in it."""
    return path if (path / "merlb.json").is_file() else newest_version(path)


class Scorer:
    """A SavedModel of ``merlb export`` and what its ``merlb.json`` says.

    Attributes:
        folder: where it was loaded from.
        info: the content of ``merlb.json``.
        tasks: the classes of each task that the model has, in the order of its probabilities.
    """

    def __init__(self, folder: Path, info: Mapping[str, Any], model: Any) -> None:
        self.folder = folder
        self.info = info
        self.tasks = {task: classes for task, classes in TASKS.items() if task in info["tasks"]}
        self._model = model  # held whole: the signatures alone do not keep its variables alive

    @classmethod
    def load(cls, folder: Path) -> "Scorer":
        """Load the model in ``folder`` (``models/export`` or ``models/serving/<n>``).

        Raises:
            MerlbError: it is missing or broken, of another schema version, or its classes are not this merlb's.
        """
        info = _checked_info(folder)
        importlib.import_module("merlb_model.nn")  # brings TensorFlow in without its noise
        import tensorflow as tf

        try:
            model = tf.saved_model.load(str(folder))
        except (OSError, ValueError, tf.errors.OpError) as error:
            first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise MerlbError(f"{folder}: no SavedModel can be read ({first_line}): run `merlb export` again") from None
        missing = [name for name in SIGNATURES if name not in model.signatures]
        if missing:
            raise MerlbError(f"{folder}: the SavedModel lacks {', '.join(missing)}: run `merlb export` again")
        return cls(folder, info, model)

    def score(
        self,
        face: NDArray[np.uint8],
        screen: NDArray[np.uint8],
        audio: NDArray[np.int16],
        present: NDArray[np.float32] | None = None,
    ) -> Scores:
        """Probabilities of whole windows.

        Args:
            face: u8 [B,20,64,64,3], RGB.
            screen: u8 [B,20,128,128,3], RGB.
            audio: i16 [B,20,5512].
            present: f32 [B,3], 1 or 0 for face, screen, audio; None: all are there.

        Returns:
            f32 [B, classes] a task.
        """
        if present is None or bool(np.all(present)):
            return self._call("serving_default", face=face, screen=screen, audio=audio)
        return self._call("masked", face=face, screen=screen, audio=audio, present=present.astype(np.float32))

    def encode(self, face: NDArray[np.uint8], screen: NDArray[np.uint8], audio: NDArray[np.int16]) -> Features:
        """Features of one second.

        Args:
            face: u8 [B,4,64,64,3].
            screen: u8 [B,4,128,128,3].
            audio: i16 [B,5,5512]: the slice before the second, then its four.

        Returns:
            f32 [B,4,D] a modality, D the modality's own.
        """
        return self._call("encode", face=face, screen=screen, audio=audio)

    def fuse(self, features: Features, present: NDArray[np.float32]) -> Scores:
        """Probabilities of windows from their features.

        Args:
            features: f32 [B,20,D] a modality: five seconds of ``encode``. The first audio step reaches before the
                window and is ignored.
            present: f32 [B,3].

        Returns:
            f32 [B, classes] a task.
        """
        return self._call("fuse", present=present.astype(np.float32), **features)

    def warm(self) -> None:
        """Call each signature once, so that no caller waits for what TensorFlow prepares at the first call.

        Raises:
            MerlbError: the model does not answer its golden windows as it did when it was exported.
        """
        window = _zeros(STEPS, STEPS)
        self.score(**window)
        self.score(**window, present=np.zeros((1, len(MODALITIES)), np.float32))
        features = self.encode(**_zeros(STEPS_PER_SECOND, STEPS_PER_SECOND + 1))
        seconds = STEPS // STEPS_PER_SECOND
        five_seconds = {name: np.concatenate([value] * seconds, axis=1) for name, value in features.items()}
        self.fuse(five_seconds, np.ones((1, len(MODALITIES)), np.float32))
        self._check_golden_windows()

    def _check_golden_windows(self) -> None:
        path = self.folder / "golden.npz"
        if not path.exists():
            return
        with np.load(path, allow_pickle=False) as golden:
            scores = self.score(golden["face"], golden["screen"], golden["audio"], golden["present"])
            off = max(float(np.abs(scores[task] - golden[f"answer_{task}"]).max()) for task in scores)
        if not off <= GOLDEN_TOLERANCE:
            raise MerlbError(
                f"{self.folder}: the model's answers to its golden windows are off by {off:.3g}, expected at most "
                f"{GOLDEN_TOLERANCE:g}: promote an export that was made and copied whole"
            )

    def _call(self, signature: str, **inputs: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        outputs = self._model.signatures[signature](**inputs)
        order = MODALITIES if signature == "encode" else self.tasks
        return {name: outputs[name].numpy() for name in order}


def _zeros(frames: int, slices: int) -> dict[str, NDArray[Any]]:
    return {
        "face": np.zeros((1, frames, *SHAPES["face"][1:]), np.uint8),
        "screen": np.zeros((1, frames, *SHAPES["screen"][1:]), np.uint8),
        "audio": np.zeros((1, slices, *SHAPES["audio"][1:]), np.int16),
    }


def _checked_info(folder: Path) -> dict[str, Any]:
    info = read_json(folder / "merlb.json", "merlb export")
    version = info.get("schema_version") if isinstance(info, dict) else None
    if version != SCHEMA_VERSION:
        raise MerlbError(
            f"{folder / 'merlb.json'}: schema version {version}, this merlb reads {SCHEMA_VERSION}: "
            "run `merlb export` again"
        )
    tasks = info.get("tasks") or {}
    for task, classes in tasks.items():
        if tuple(classes) != TASKS.get(task):
            raise MerlbError(
                f"{folder / 'merlb.json'}: the classes of {task} are {', '.join(classes)}, this merlb knows "
                f"{', '.join(TASKS.get(task, ('no such task',)))}: export with this merlb"
            )
    if not tasks:
        raise MerlbError(f"{folder / 'merlb.json'}: no task in it: run `merlb export` again")
    return dict(info)
