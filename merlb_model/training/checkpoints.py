"""Where a training stands, kept after each epoch, so that one that was killed goes on as if it had not been."""

import json
import math
import sys
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from merlb_model.files import remove_partials, replacing

_SCHEMA_VERSION = 1


@dataclass
class Best:
    """The best epoch so far: by validation macro-F1, ties by validation loss."""

    epoch: int = 0
    score: tuple[float, float] = (-1.0, -math.inf)
    weights: list[Any] = field(default_factory=list)


@dataclass
class Progress:
    """What a training has done so far: its last whole epoch, a row of the history for each, and the best one."""

    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: Best = field(default_factory=Best)


class Checkpoint:
    """One file that holds a training, written whole or not at all, after each epoch anew.

    It is an ``.npz`` of plain arrays: the variables of the network, the states of its seed generators among them, those
    of the optimizer, and the weights of the best epoch; the rest is in it as JSON.

    Args:
        folder: where it lies, beside others'.
        key: what tells this training from every other.
        writes: whether this process writes it; of several that train together one does, and all read.

    Attributes:
        path: the file.
        run_id: the MLflow run of the training that is kept; to be set to the run that goes on.
        history: rows of the epochs that are kept.
    """

    def __init__(self, folder: Path, key: str, writes: bool = True) -> None:
        self.path = folder / f"{key}.npz"
        self._writes = writes
        self._began = time.time()
        rest, _ = self._read(say=False)
        self.run_id = str(rest.get("run_id", ""))
        self.history: list[dict[str, float]] = rest.get("history", [])

    def save(self, network: keras.Model, optimizer: keras.optimizers.Optimizer, progress: Progress) -> None:
        if not self._writes:
            return
        arrays: dict[str, Any] = {
            **_numbered("network", [each.numpy() for each in network.variables]),
            **_numbered("optimizer", [each.numpy() for each in optimizer.variables]),
            **_numbered("best", progress.best.weights),
        }
        rest = {
            "schema_version": _SCHEMA_VERSION,
            "run_id": self.run_id,
            "epoch": progress.epoch,
            "history": progress.history,
            "best": {"epoch": progress.best.epoch, "score": progress.best.score},
        }
        with replacing(self.path) as fresh, fresh.open("wb") as file:
            np.savez(file, json=np.array(json.dumps(rest)), **arrays)

    def restore(self, network: keras.Model, optimizer: keras.optimizers.Optimizer) -> Progress:
        """Give ``network`` and ``optimizer``, both built, what is kept, and say where they stand.

        Without a file, or with one that cannot be read or is of another network, that is the start.
        """
        rest, arrays = self._read()
        if not rest:
            return Progress()
        variables = [*network.variables, *optimizer.variables]
        values = [*_of("network", arrays), *_of("optimizer", arrays)]
        if [tuple(each.shape) for each in variables] != [value.shape for value in values]:
            self._pass_over("it is of another network")
            return Progress()
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        best = Best(rest["best"]["epoch"], tuple(rest["best"]["score"]), _of("best", arrays))
        return Progress(rest["epoch"], rest["history"], best)

    def remove(self) -> None:
        """Remove the file, and what killed writers left beside it."""
        self.path.unlink(missing_ok=True)
        remove_partials(self.path.parent, self._began)

    def _read(self, say: bool = True) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """The JSON and the arrays; nothing where nothing usable is kept, which is said where ``say``."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            rest = json.loads(str(arrays.pop("json")))
            if rest["schema_version"] != _SCHEMA_VERSION:
                raise ValueError(f"schema version {rest['schema_version']}, expected {_SCHEMA_VERSION}")
        except FileNotFoundError:
            return {}, {}
        except (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile) as error:
            if say:
                self._pass_over(f"{type(error).__name__}: {error}")
            return {}, {}
        return rest, arrays

    def _pass_over(self, reason: str) -> None:
        sys.stderr.write(f"  {self.path} is passed over: {reason}\n")


def _numbered(kind: str, values: list[Any]) -> dict[str, NDArray[Any]]:
    return {f"{kind}/{index:05d}": np.asarray(value) for index, value in enumerate(values)}


def _of(kind: str, arrays: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    return [arrays[name] for name in sorted(arrays) if name.startswith(f"{kind}/")]
