"""The sections of ``params.yaml`` as types. Nothing below the drivers reads the file itself."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from merlb_model.errors import MerlbError

S = TypeVar("S", bound="Section")
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A section of ``params.yaml``: fixed once read, unknown names refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CorpusParams(Section):
    """Where clips come from."""

    source: Literal["sample", "published", "folder"] = "sample"
    path: str | None = None
    streamers: int = Field(40, ge=3, le=10_000)
    clips_per_streamer: int = Field(10, ge=1, le=10_000)
    seed: int = 7
    width: int = Field(640, ge=320, le=1920, multiple_of=2)
    height: int = Field(360, ge=180, le=1080, multiple_of=2)
    fps: int = Field(20, ge=10, le=60)
    label_noise: Share = 0.04

    @model_validator(mode="after")
    def _brought_clips_have_a_path(self) -> "CorpusParams":
        if self.source != "sample" and not self.path:
            raise ValueError(f"source: {self.source} needs a path, e.g. data/sources/mine")
        return self


class IngestParams(Section):
    shard_digits: int = Field(1, ge=0, le=4)
    archive_gigabytes: float = Field(200, gt=0)
    archive_members: int = Field(100_000, ge=1, le=10_000_000)
    archive_ratio: float = Field(100, ge=1)
    workers: int = Field(0, ge=0, le=256)
    find_webcam: bool = True
    webcam_clips: int = Field(8, ge=1, le=100)
    webcam_frames: int = Field(6, ge=2, le=20)
    smallest_face: int = Field(26, ge=20, le=500)
    check_every: int = Field(1, ge=0, le=10_000)


class ExtractParams(Section):
    workers: int = Field(0, ge=0, le=256)
    minimum_seconds: float = Field(2.5, gt=0, le=5)
    maximum_seconds: float = Field(60, ge=5, le=86_400)
    maximum_pixels: int = Field(10_000_000, ge=4096, le=150_000_000)
    maximum_megabytes: int = Field(200, ge=1, le=100_000)
    timeout_seconds: float = Field(60, gt=0, le=3600)
    memory_megabytes: int = Field(2000, ge=500, le=1_000_000)


class ConvertParams(Section):
    pass


class SplitParams(Section):
    mode: Literal["streamer", "published", "all_test"] = "streamer"
    validation: Share = 0.15
    test: Share = 0.25
    stratify: bool = False
    seed: int = 7

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> "SplitParams":
        if self.validation + self.test >= 1:
            raise ValueError("validation + test must stay below 1: nothing is left to train on")
        return self


ValidateRule = Literal[
    "quarantined", "invalid_labels", "classes", "streamers", "near_duplicates", "doubled", "silent", "black", "frozen",
    "drift",
]  # fmt: skip
"""The rules of ``validate`` that may be hard or soft; what later stages rest on (schemas, hash, labels) is hard."""


class ValidateParams(Section):
    hard: tuple[ValidateRule, ...] = ("quarantined", "streamers", "near_duplicates")
    minimum_clips: int = Field(1, ge=1)
    minimum_class_clips: int = Field(2, ge=0)
    maximum_quarantined: Share = 0.5
    maximum_invalid_labels: Share = 0.05
    maximum_silent: Share = 0.05
    silent_db: float = Field(-60.0, ge=-100, le=0)
    maximum_black: Share = 0.05
    black_level: float = Field(8.0, ge=0, le=255)
    maximum_frozen: Share = 0.05
    frozen_change: float = Field(2.0, ge=0, le=255)
    defect_steps: float = Field(0.9, gt=0, le=1)
    duplicate_bits: float = Field(40.0, ge=0, le=128)
    duplicate_seconds: float = Field(2.5, ge=0.25, le=5)
    duplicate_sound: float = Field(0.5, ge=-1, le=1)
    maximum_doubled: Share = 0.0
    maximum_psi: float = Field(0.2, ge=0)
    drift_chance: Share = 0.05


class OversampleParams(Section):
    tasks: tuple[Literal["valence", "arousal", "event"], ...] = ()
    maximum_repeats: int = Field(4, ge=1)
    seed: int = 7


class AudioParams(Section):
    """How the sound is cut into segments, and which of them are used (``nn.key_segments``)."""

    frontend: Literal["key_segments", "slices", "all_segments", "random_segments"] = "all_segments"
    segments: int = Field(8, ge=1, le=19)


class TensorTrainParams(Section):
    """Shape of the tensor-train fusion (``nn.tensor_train``)."""

    input_modes: tuple[Annotated[int, Field(ge=1)], ...] = (3, 43, 129, 43, 3)
    output_modes: tuple[Annotated[int, Field(ge=1)], ...] = (2, 4, 4, 4, 3)
    ranks: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2, 4, 4, 2, 1)
    l2: float = Field(0.0, ge=0)


class ModelParams(Section):
    preset: Literal["small", "paper"] = "small"
    fusion: Literal["early", "late", "joint", "deep", "merlb"] = "merlb"
    tasks: Literal["both", "emo", "game"] = "both"
    modalities: tuple[Literal["face", "screen", "audio"], ...] = ("face", "screen", "audio")
    dropout: float = Field(0.2, ge=0, lt=1)
    audio: AudioParams = AudioParams()
    tensor_train: TensorTrainParams = TensorTrainParams()

    @model_validator(mode="after")
    def _some_modality(self) -> "ModelParams":
        if not self.modalities or len(set(self.modalities)) != len(self.modalities):
            raise ValueError("modalities: name one, two or three different ones of face, screen, audio")
        return self


class TrainParams(Section):
    seed: int = 7
    epochs: int = Field(28, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    warmup_epochs: float = Field(0.0, ge=0)
    clip_norm: float | None = Field(None, gt=0)
    loss: Literal["cross_entropy", "weighted_cross_entropy", "focal"] = "cross_entropy"
    focal_gamma: float = Field(2.0, ge=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    patience: int = Field(8, ge=1)
    augment: bool = True
    modality_dropout: float = Field(0.1, ge=0, lt=1)
    mixed_precision: bool = True
    gpus: int = Field(0, ge=0, le=64)


class EvaluateParams(Section):
    batch_size: int = Field(32, ge=1)


class ExportParams(Section):
    registered_model: str = Field("merlb", min_length=1)


class PipelineParams(Section):
    """The Kubeflow pipeline's images and requests."""

    cpu_image: str
    gpu_image: str
    serving_image: str
    parallelism: int = Field(2, ge=1)
    cpu_request: str = "1"
    memory_request: str = "4G"


class Params(Section):
    """All of ``params.yaml``."""

    corpus: CorpusParams
    ingest: IngestParams
    extract: ExtractParams
    convert: ConvertParams
    split: SplitParams
    validate_: ValidateParams = Field(alias="validate")  # pydantic's BaseModel has a `validate` of its own
    oversample: OversampleParams
    model: ModelParams
    train: TrainParams
    evaluate: EvaluateParams
    export: ExportParams
    pipeline: PipelineParams

    @model_validator(mode="after")
    def _one_remedy_for_rare_classes(self) -> "Params":
        if self.oversample.tasks and self.train.loss != "cross_entropy":
            raise ValueError(
                f"train.loss: {self.train.loss} and oversample.tasks: {list(self.oversample.tasks)} would both favour "
                "rare classes: set oversample.tasks: [] or train.loss: cross_entropy"
            )
        return self


def _first_complaint(error: ValidationError) -> str:
    complaint = error.errors()[0]
    place = ".".join(str(part) for part in complaint["loc"]) or "(the section as a whole)"
    return f"{place}: {complaint['msg']} (found {complaint['input']!r})"


def parse_section(kind: type[S], content: dict[str, Any], where: str) -> S:
    """Check ``content`` against ``kind``.

    Raises:
        MerlbError: an unknown name or a value out of bounds; ``where`` names the place.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise MerlbError(f"{where}: {_first_complaint(error)}; mend that line") from None


def load_params(path: Path) -> Params:
    """Read and check ``params.yaml``.

    Raises:
        MerlbError: it is missing, not YAML, or holds an unknown name or a bad value.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MerlbError(
            f"{path} is missing: run merlb in the project's folder, or name a file with --params"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MerlbError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise MerlbError(f"{path}: expected sections (corpus:, ingest:, …), found {type(content).__name__}")
    return parse_section(Params, content, str(path))
