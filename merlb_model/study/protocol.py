"""What the study runs: its corpus, its folds and seeds, and every configuration. docs/study.md says why."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from merlb_model.files import sha256_of_json
from merlb_model.labels import MODALITIES
from merlb_model.params import CorpusParams, ModelParams, TrainParams

FUSIONS: Final = ("early", "late", "joint", "deep", "merlb")
FRONTENDS: Final = ("key_segments", "random_segments", "all_segments", "slices")
Labels = Literal["true", "permuted"]


@dataclass(frozen=True)
class Protocol:
    """Sizes of a study.

    Attributes:
        name: of its folder and its tag in MLflow.
        corpus: what is rendered.
        folds: of the cross-validation over streamers; each clip is tested once a seed.
        seeds: of the fusions' training.
        encoder_epochs: epochs in which each modality's encoder is trained, with heads of its own.
        copies: differently augmented copies of each training clip whose features are kept.
        epochs: epochs of a fusion's training on the kept features.
        segments: how many of a window's 19 segments key_segments and random_segments take in the comparison.
    """

    name: str
    corpus: CorpusParams
    folds: int
    seeds: tuple[int, ...]
    encoder_epochs: dict[str, int]
    copies: int
    epochs: int
    segments: int

    @property
    def key(self) -> str:
        """Of the folder: another protocol begins anew."""
        return sha256_of_json({**self.__dict__, "corpus": self.corpus.model_dump(mode="json")})[:12]


STUDY: Final = Protocol(
    name="study",
    corpus=CorpusParams(streamers=60, clips_per_streamer=10, seed=2026),
    folds=3,
    seeds=(1, 2, 3, 4, 5),
    encoder_epochs={"face": 18, "screen": 14, "audio": 22},
    copies=4,
    epochs=24,
    segments=4,
)
SMOKE: Final = Protocol(
    name="study-smoke",
    corpus=CorpusParams(streamers=6, clips_per_streamer=2, seed=2026, width=320, height=180, fps=10),
    folds=2,
    seeds=(1,),
    encoder_epochs=dict.fromkeys(MODALITIES, 1),
    copies=1,
    epochs=1,
    segments=4,
)


@dataclass(frozen=True)
class EncoderJob:
    """One modality's encoder, trained on all folds but one, and the features that it makes of every clip.

    Attributes:
        fold: the one that is left out.
        slices: the audio is cut into single slices, not into segments of two.
        labels: ``permuted`` deals the training clips' labels out anew.
    """

    fold: int
    modality: str
    slices: bool = False
    labels: Labels = "true"

    @property
    def name(self) -> str:
        return f"{self.labels}-{self.modality}{'-slices' if self.slices else ''}-{self.fold}"


@dataclass(frozen=True)
class Configuration:
    """One line of the study's tables.

    Attributes:
        name: how tables call it.
        model: fusion, tasks, modalities and audio front end.
        modality_dropout: share of the training clips in which a modality is called absent.
        same_compute_as: name of the front end whose multiply-adds, over the whole training, it may spend.
        labels: ``permuted`` trains on labels dealt out anew.
    """

    name: str
    model: ModelParams
    modality_dropout: float = 0.1
    same_compute_as: str | None = None
    labels: Labels = "true"

    @property
    def uses_slices(self) -> bool:
        return self.model.audio.frontend == "slices"

    def encoders(self, fold: int) -> dict[str, EncoderJob]:
        """Whose features it is trained on: {modality: job}."""
        return {
            name: EncoderJob(fold, name, self.uses_slices and name == "audio", self.labels)
            for name in self.model.modalities
        }


@dataclass(frozen=True)
class FusionJob:
    """One training of a configuration: a seed, and the fold that is tested."""

    configuration: Configuration
    seed: int
    fold: int

    @property
    def name(self) -> str:
        return f"{self.configuration.name}-{self.seed}-{self.fold}"


def configurations(protocol: Protocol) -> list[tuple[Configuration, tuple[int, ...]]]:
    """Every configuration, and the seeds it is trained with."""
    seeds, first = protocol.seeds, protocol.seeds[:1]
    fusions = [Configuration(name, _model(fusion=name)) for name in FUSIONS]
    singles = [Configuration(name, _model(fusion="late", modalities=(name,))) for name in MODALITIES]
    fewer_tasks = [
        Configuration(f"{name}-{tasks}", _model(fusion=name, tasks=tasks))
        for tasks in ("emo", "game")
        for name in FUSIONS
    ]
    complete = Configuration("merlb-complete", _model(), modality_dropout=0.0)
    frontends = [
        Configuration(
            f"merlb-{name}",
            _model(audio={"frontend": name, "segments": protocol.segments}),
            same_compute_as="key_segments",
        )
        for name in FRONTENDS
    ]
    permuted = Configuration("merlb-permuted", _model(), labels="permuted")
    repeated = [*fusions, *singles, complete, *frontends]
    return [*((each, seeds) for each in repeated), *((each, first) for each in (*fewer_tasks, permuted))]


def _model(**changed: Any) -> ModelParams:
    """The preset ``small`` with all segments of the audio, but for what is ``changed``."""
    return ModelParams.model_validate({"audio": {"frontend": "all_segments"}, **changed})


def fusion_jobs(protocol: Protocol) -> Iterator[FusionJob]:
    """All trainings. On permuted labels the first fold alone is tested: its encoders are trained for it alone."""
    for configuration, seeds in configurations(protocol):
        folds = 1 if configuration.labels == "permuted" else protocol.folds
        for seed in seeds:
            for fold in range(folds):
                yield FusionJob(configuration, seed, fold)


def encoder_jobs(protocol: Protocol) -> list[EncoderJob]:
    """The encoders that the fusions need, the longest trainings first."""
    needed = {job for each in fusion_jobs(protocol) for job in each.configuration.encoders(each.fold).values()}
    order = ("screen", "face", "audio")
    return sorted(needed, key=lambda job: (order.index(job.modality), job.name))


def encoder_training(protocol: Protocol, job: EncoderJob) -> tuple[ModelParams, TrainParams]:
    """Network and settings of an encoder's training: the modality alone, with its own heads."""
    frontend = "slices" if job.slices else "all_segments"
    model = _model(modalities=(job.modality,), fusion="late", audio={"frontend": frontend})
    return model, TrainParams(epochs=protocol.encoder_epochs[job.modality], seed=job.fold, modality_dropout=0.0)
