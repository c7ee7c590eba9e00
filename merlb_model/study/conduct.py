"""Conducting a study: corpus, folds, encoders, fusions, each kept once it is there, so that a study can go on later."""

import gc
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any, Final

import pandas as pd

from merlb_model.corpus.ingest import ingest
from merlb_model.dataset.convert import convert
from merlb_model.dataset.extract import extract
from merlb_model.dataset.folds import grouped_folds
from merlb_model.dataset.store import open_store
from merlb_model.params import ConvertParams, ExtractParams, IngestParams
from merlb_model.processes import worker_pool
from merlb_model.progress import track
from merlb_model.study.answers import Answers, gather
from merlb_model.study.protocol import EncoderJob, FusionJob, Protocol, encoder_jobs, fusion_jobs

_FOLDS_SEED: Final = 0
_TRAININGS_A_WORKER: Final = 16  # TensorFlow keeps some 30 MB of each


def conduct(protocol: Protocol, folder: Path, workers: int) -> Answers:
    """Do what is missing of the study in ``folder`` and return its answers.

    Args:
        protocol: what is to be run.
        folder: ``.merlb/study``; each protocol has a folder of its own in it.
        workers: processes, of one thread each.
    """
    here = folder / f"{protocol.name}-{protocol.key}"
    store = make_store(protocol, here)
    folds = grouped_folds(open_store(store).clips["streamer"], protocol.folds, _FOLDS_SEED)
    encoders = {job: here / "features" / job.name for job in encoder_jobs(protocol)}
    _do(
        "encoders",
        [(_make_features, job, protocol, store, folds, out) for job, out in encoders.items() if not out.is_dir()],
        workers,
    )
    fusions = {job: here / "runs" / f"{job.name}.npz" for job in fusion_jobs(protocol)}
    _do(
        "fusions",
        [
            (_run_fusion, job, protocol, store, folds, _features(job, encoders), out)
            for job, out in fusions.items()
            if not out.is_file()
        ],
        workers,
    )
    runs: dict[str, dict[tuple[int, int], Path]] = {}
    for job, path in fusions.items():
        runs.setdefault(job.configuration.name, {})[job.seed, job.fold] = path
    return gather(open_store(store), pd.read_csv(here / "raw" / "truth.csv"), runs)


def make_store(protocol: Protocol, here: Path) -> Path:
    """Render and convert the study's corpus where it is missing; the clip store's folder."""
    if not (here / "store").is_dir():
        if not (here / "raw").is_dir():
            ingest(protocol.corpus, IngestParams(), here / "raw")
        extract(here / "raw", ExtractParams(), here / "extract", here / "shards")
        convert(here / "raw", [here / "extract"], ConvertParams(), here / "store", here / "shards")
    return here / "store"


def _features(job: FusionJob, encoders: dict[EncoderJob, Path]) -> dict[str, Path]:
    return {modality: encoders[encoder] for modality, encoder in job.configuration.encoders(job.fold).items()}


def _do(label: str, trainings: Sequence[tuple[Any, ...]], workers: int) -> None:
    """Do ``trainings``, each a function and what it takes, in processes that are replaced after some of them."""
    for _ in track(_done(trainings, workers), label, total=len(trainings), unit="training"):
        pass


def _done(trainings: Sequence[tuple[Any, ...]], workers: int) -> Iterator[None]:
    size = _TRAININGS_A_WORKER * workers
    for first in range(0, len(trainings), size):
        with worker_pool(workers, _one_thread) as pool:
            for future in as_completed([pool.submit(*training) for training in trainings[first : first + size]]):
                yield future.result()


def _one_thread() -> None:
    """There is a worker for each core. What the trainings say of their epochs goes nowhere."""
    from merlb_model.nn import tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    sys.stderr = Path("/dev/null").open("w")  # noqa: SIM115 (for as long as the process lives)


def _make_features(job: EncoderJob, *arguments: Any) -> None:
    from merlb_model.study.features import make_features

    make_features(job, *arguments)
    _forget()


def _run_fusion(job: FusionJob, *arguments: Any) -> None:
    from merlb_model.study.runs import run_fusion

    run_fusion(job, *arguments)
    _forget()


def _forget() -> None:
    """Give back what a training held: a worker has many of them before it."""
    from merlb_model.nn import keras

    keras.utils.clear_session()
    gc.collect()
