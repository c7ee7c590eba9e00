"""The Kubeflow pipeline: wiring only. What a stage does is in ``merlb_model``, its signature in ``components``.

1. ingest: gather the corpus and name its shards.
2. extract: decode the clips, one task a shard.
3. convert: join the shards into the clip store.
4. split, validate, oversample: choose, check and balance the rows.
5. train, evaluate, export: the model, its scores, and what is scored live.
"""

from collections.abc import Callable
from typing import Any

from kfp import dsl

from components.convert import convert
from components.evaluate import evaluate
from components.export import export
from components.extract import extract
from components.ingest import ingest
from components.oversample import oversample
from components.split import split
from components.train import train
from components.validate import validate
from merlb_model.errors import MerlbError
from merlb_model.params import Params, PipelineParams

NAME = "merlb-training"
GPU_RESOURCE = "nvidia.com/gpu"
STAGES = (ingest, extract, convert, split, validate, oversample, train, evaluate, export)


def _as_task(stage: Callable[..., Any], pods: PipelineParams, gpus: int = 0) -> Callable[..., dsl.PipelineTask]:
    """``stage`` as a task in the project's image, which asks for what its pod needs."""
    image = pods.gpu_image if gpus else pods.cpu_image
    # kfp is in the image: a task starts without the network.
    component = dsl.component(stage, base_image=image, install_kfp_package=False)

    def task(**arguments: Any) -> dsl.PipelineTask:
        made = component(**arguments)
        made.set_cpu_request(pods.cpu_request).set_memory_request(pods.memory_request)
        if gpus:
            made.set_accelerator_type(GPU_RESOURCE).set_accelerator_limit(gpus)
        return made

    return task


def _as_arguments(params: Params) -> dict[str, Any]:
    """The sections of ``params`` as pipeline parameters, which cannot hold null.

    Raises:
        MerlbError: a null that is not the name's default would be lost.
    """
    sections = params.model_dump(mode="json", by_alias=True, exclude_none=True)
    for name, kept in Params.model_validate(sections):
        wanted = getattr(params, name)
        lost = [key for key, value in wanted if value is None and getattr(kept, key) is not None]
        if lost:
            raise MerlbError(f"{name.strip('_')}.{lost[0]}: null cannot be passed to Kubeflow; name a value")
    # One process a pod: a pod is given the cores it asks for, not the node's, and the fan-out is the width.
    sections["extract"]["workers"] = params.extract.workers or 1
    return sections


def training_pipeline(params: Params) -> Any:
    """The training pipeline; each of its parameters defaults to a section of ``params``.

    Images, requests and the fan-out's width come from ``params`` too: Kubeflow fixes them when compiling.

    Returns:
        The pipeline: compile it, or call it after ``kfp.local.init`` to run it here.

    Raises:
        MerlbError: a section holds a null that cannot be passed.
    """
    section = _as_arguments(params)
    task = {stage.__name__: _as_task(stage, params.pipeline) for stage in STAGES}
    task["train"] = _as_task(train, params.pipeline, params.train.gpus)

    def training(
        corpus: dict[str, Any] = section["corpus"],
        ingest: dict[str, Any] = section["ingest"],
        extract: dict[str, Any] = section["extract"],
        convert: dict[str, Any] = section["convert"],
        split: dict[str, Any] = section["split"],
        validate: dict[str, Any] = section["validate"],
        oversample: dict[str, Any] = section["oversample"],
        model: dict[str, Any] = section["model"],
        train: dict[str, Any] = section["train"],
        evaluate: dict[str, Any] = section["evaluate"],
        export: dict[str, Any] = section["export"],
        tracking_uri: str = "",
    ) -> None:
        gathered = task["ingest"](corpus=corpus, params=ingest)
        index = gathered.outputs["index"]

        with dsl.ParallelFor(gathered.outputs["Output"], parallelism=params.pipeline.parallelism) as shard:
            decoded = task["extract"](index=index, shard=shard, params=extract)
        shards = dsl.Collected(decoded.outputs["extracted"])

        store = task["convert"](index=index, extracted=shards, params=convert).outputs["store"]
        splits = task["split"](store=store, params=split).outputs["splits"]
        validation = task["validate"](store=store, splits=splits, params=validate).outputs["validation"]
        rows = task["oversample"](store=store, splits=splits, validation=validation, params=oversample)

        models = task["train"](
            store=store,
            splits=splits,
            train_rows=rows.outputs["train_rows"],
            model=model,
            params=train,
            tracking_uri=tracking_uri,
        ).outputs["models"]
        scored = task["evaluate"](models=models, store=store, splits=splits, params=evaluate, tracking_uri=tracking_uri)
        task["export"](
            models=models,
            reports=scored.outputs["reports"],
            store=store,
            splits=splits,
            params=export,
            tracking_uri=tracking_uri,
        )

    return dsl.pipeline(training, name=NAME, description="From raw clips to a model that is scored live")
