"""A trained model with its tensor-train fusion rounded to lower ranks, and what that costs in F1."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from merlb_model.dataset.split import read_splits
from merlb_model.dataset.store import ClipStore, open_store
from merlb_model.errors import MerlbError
from merlb_model.evaluation.evaluate import load_trained
from merlb_model.evaluation.predict import predict_logits
from merlb_model.evaluation.scores import macro_f1
from merlb_model.files import replacing, write_json
from merlb_model.nn import keras
from merlb_model.nn.model import weights_hash
from merlb_model.nn.tensor_train import TensorTrainFusion, fusion_of
from merlb_model.nn.tt_decomposition import Cores, error_of_next_rank, ranks_of, relative_error, round_cores

_SPLITS: Final = ("validation", "test")

Scores = dict[tuple[str, str], float]
"""Macro-F1 by task and split."""


@dataclass(frozen=True)
class Size:
    """How large a model is.

    Attributes:
        ranks: of its tensor-train fusion.
        fusion_bytes: of the fusion's weights.
        file_bytes: of ``merlb.keras``.
    """

    ranks: tuple[int, ...]
    fusion_bytes: int
    file_bytes: int


@dataclass(frozen=True)
class Compression:
    """What `compress` did; ``before`` and ``after`` of sizes and scores.

    Attributes:
        error: relative error of the fusion's matrix in the Frobenius norm.
        next_error: the greatest error to allow for one rank less; infinite where none can go.
        clips: rows of each split.
        folder: where the model was left.
    """

    before: Size
    after: Size
    error: float
    next_error: float
    clips: dict[str, int]
    scores_before: Scores
    scores_after: Scores
    folder: Path

    def __str__(self) -> str:
        """A table for the person who ran it."""
        rows = [
            ("ranks of the fusion", *(",".join(map(str, size.ranks)) for size in (self.before, self.after))),
            ("bytes of the fusion", f"{self.before.fusion_bytes:,}", f"{self.after.fusion_bytes:,}"),
            ("bytes of merlb.keras", f"{self.before.file_bytes:,}", f"{self.after.file_bytes:,}"),
        ]
        for task, split in self.scores_before:
            name = f"{task} macro-F1, {self.clips[split]} {split} clips"
            rows.append((name, *(f"{scores[task, split]:.3f}" for scores in (self.scores_before, self.scores_after))))
        lines = [f"{name:<42} {before:>16} {after:>16}" for name, before, after in [("", "before", "after"), *rows]]
        more = (
            f"one rank less needs --max-error {self.next_error:.3g}" if self.next_error < 1 else "no rank less is left"
        )
        error = f"relative error of the fusion: {self.error:.3g}; {more}"
        return "\n".join([*lines, error, f"compressed: {self.folder}"])


def compress(models: Path, store: Path, splits: Path, max_error: float, batch_size: int, out: Path) -> Compression:
    """Round the fusion of a trained model, score both on the rows that training did not see, and leave the smaller one.

    ``out`` gets ``merlb.keras`` and ``run.json``, as ``merlb train`` leaves them; the latter names the new ranks and
    the new weights, the old ones as ``compressed_from``, and a run of its own, so that what evaluates the model does
    not log over the scores of the one it comes from.

    Args:
        models: folder of ``merlb.keras`` and ``run.json``.
        store: folder of the clip store.
        splits: ``splits.parquet`` of that store.
        max_error: greatest relative error of the fusion's matrix in the Frobenius norm.
        batch_size: windows scored at a time.
        out: another folder; other files in it stay.

    Raises:
        MerlbError: an input is missing, the model fuses in another way, or ``max_error`` or ``out`` will not do.
    """
    if not 0 <= max_error < 1:
        raise MerlbError(f"--max-error {max_error:g}: expected a relative error of at least 0 and below 1, e.g. 0.05")
    if out.resolve() == models.resolve():
        raise MerlbError(f"--out {out}: the trained model lies there; name another folder")
    run, network = load_trained(models)
    clips = open_store(store)
    split = read_splits(splits, clips)
    cores = [np.asarray(core) for core in fusion_of(network).get_weights()]
    rounded = round_cores(cores, max_error)
    smaller = with_cores(network, rounded)
    scores_before, scores_after = (_scores(each, clips, split, batch_size) for each in (network, smaller))
    with replacing(out / "merlb.keras") as fresh:
        smaller.save(fresh)
    write_json(out / "run.json", _run_of(smaller, run))
    return Compression(
        before=_size(network, models),
        after=_size(smaller, out),
        error=relative_error(cores, fusion_of(smaller).get_weights()),
        next_error=error_of_next_rank(rounded),
        clips={name: int((split == name).sum()) for name in _SPLITS},
        scores_before=scores_before,
        scores_after=scores_after,
        folder=out,
    )


def with_cores(network: keras.Model, cores: Cores) -> keras.Model:
    """A copy of a network whose tensor-train fusion has these cores, of the same modes and any ranks."""
    fusion = fusion_of(network)

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        changed = {"ranks": ranks_of(cores)} if layer is fusion else {}
        return type(layer).from_config({**layer.get_config(), **changed})

    smaller = keras.models.clone_model(network, clone_function=copy, recursive=True)
    theirs = {id(core) for core in fusion.weights}
    for old, new in zip(network.weights, smaller.weights, strict=True):
        if id(old) not in theirs:
            new.assign(old)
    fusion_of(smaller).set_weights(cores)
    return smaller


def _scores(network: keras.Model, clips: ClipStore, split: NDArray[np.str_], batch_size: int) -> Scores:
    rows = np.flatnonzero(np.isin(split, _SPLITS))
    logits = predict_logits(network, clips, rows, batch_size, "compress")
    actual = {task: clips.targets(task)[rows] for task in logits}
    return {
        (task, name): macro_f1(actual[task][split[rows] == name], values.argmax(axis=-1)[split[rows] == name])
        for task, values in logits.items()
        for name in _SPLITS
    }


def _size(network: keras.Model, folder: Path) -> Size:
    cores = fusion_of(network).get_weights()
    return Size(ranks_of(cores), sum(core.nbytes for core in cores), (folder / "merlb.keras").stat().st_size)


def _run_of(smaller: keras.Model, run: dict[str, Any]) -> dict[str, Any]:
    fusion: TensorTrainFusion = fusion_of(smaller)
    new_hash = weights_hash(smaller)
    model = run["params"]["model"]
    shape = {**model.get("tensor_train", {}), "ranks": list(fusion.ranks)}
    return {
        **run,
        "run_id": new_hash[:32],
        "weights_hash": new_hash,
        "compressed_from": run["weights_hash"],
        "params": {**run["params"], "model": {**model, "tensor_train": shape}},
    }
