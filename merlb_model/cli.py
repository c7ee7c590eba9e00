"""The ``merlb`` command: one thin subcommand a stage. Heavy imports stay inside the commands."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from merlb_model import __version__
from merlb_model.errors import MerlbError

if TYPE_CHECKING:
    from merlb_model.media.webcam_boxes import Webcam
    from merlb_model.media.windows import Box
    from merlb_model.params import Params

app = typer.Typer(
    name="merlb",
    help="Emotion recognition in live broadcasts: valence, arousal and game event, every second of a stream.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich alone takes half a second to import
)


@dataclass(frozen=True)
class Workspace:
    """Where a pipeline's files lie, below one folder."""

    root: Path
    params_file: Path

    @property
    def params(self) -> "Params":
        from merlb_model.params import load_params

        return load_params(self.params_file)

    def __getattr__(self, name: str) -> Path:
        places = {
            "raw": "data/raw",
            "extracted": "data/extract",
            "shards": ".merlb/shards",
            "webcams": ".merlb/webcams",
            "store": "data/store",
            "splits": "data/splits.parquet",
            "validation": "reports/validation.json",
            "validation_page": "reports/validation.html",
            "train_rows": "data/train_rows.parquet",
            "models": "models",
            "reports": "reports",
            "exported": "models/export",
            "serving": "models/serving",
        }
        if name not in places:
            raise AttributeError(name)
        return self.root / places[name]


def _here(context: typer.Context) -> Workspace:
    workspace = context.obj
    assert isinstance(workspace, Workspace)
    return workspace


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"merlb {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    workspace: Annotated[
        Path, typer.Option("--workspace", "-w", help="The folder with data/, models/, reports/.")
    ] = Path(),
    params: Annotated[Path | None, typer.Option(help="Parameters  [default: params.yaml in the workspace]")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del debug, version  # --debug is read in `main`, where errors arrive
    context.obj = Workspace(workspace, params or workspace / "params.yaml")


@app.command()
def ingest(context: typer.Context) -> None:
    """Bring clips in: rendered, a folder, archives."""
    from merlb_model.corpus.ingest import ingest as stage

    here = _here(context)
    stage(here.params.corpus, here.params.ingest, here.raw, here.webcams)
    _say_problems(here.raw / "problems.csv")


def _say_problems(path: Path) -> None:
    from merlb_model.corpus.problems import MEANINGS, problem_counts

    counts = problem_counts(path)
    for kind, meaning in MEANINGS.items():
        if counts[kind]:
            typer.echo(f"  {counts[kind]} × {kind}: {meaning}")
    if counts:
        typer.echo(f"  each by name in {path}")


@app.command()
def extract(
    context: typer.Context,
    shard: Annotated[list[str] | None, typer.Option(help="Only this shard; may be given again.")] = None,
    clips: Annotated[
        str | None, typer.Option(help="Where the clips lie: a folder or s3://bucket/…  [default: data/raw/clips]")
    ] = None,
) -> None:
    """Decode the clips; quarantine what is unusable."""
    from merlb_model.dataset.extract import extract as stage

    here = _here(context)
    decoded, cached = stage(here.raw, here.params.extract, here.extracted, here.shards, shard or None, clips)
    typer.echo(f"  {decoded} shard(s) decoded, {cached} from the cache")
    _say_quarantined(here.extracted / "quarantine.csv")


def _say_quarantined(path: Path) -> None:
    import csv

    with path.open(encoding="utf-8", newline="") as file:  # a clip's name may hold a line's end
        clips = sum(1 for _ in csv.reader(file)) - 1
    if clips:
        typer.echo(f"  {clips} clip(s) quarantined, each with its reason in {path}")


@app.command()
def convert(context: typer.Context) -> None:
    """Join clips and labels into the .npy clip store."""
    from merlb_model.dataset.convert import convert as stage

    here = _here(context)
    stage(here.raw, [here.extracted], here.params.convert, here.store, here.shards)


@app.command()
def split(context: typer.Context) -> None:
    """Part the clips by streamer."""
    from merlb_model.dataset.split import split as stage

    here = _here(context)
    stage(here.store, here.params.split, here.splits)


@app.command()
def validate(context: typer.Context) -> None:
    """Check the store; a broken hard rule stops the run."""
    from merlb_model.dataset.validate import validate as stage

    here = _here(context)
    for rule in stage(here.store, here.splits, here.params.validate_, here.validation, here.validation_page):
        typer.echo(f"  warning: {rule.rule}: found {rule.found}, expected {rule.expected}")


@app.command()
def oversample(context: typer.Context) -> None:
    """Choose which training rows are repeated."""
    from merlb_model.dataset.oversample import oversample as stage

    here = _here(context)
    stage(here.store, here.splits, here.validation, here.params.oversample, here.train_rows)


@app.command()
def train(context: typer.Context) -> None:
    """Train with early stopping; log to MLflow."""
    from merlb_model.tracking import default_uri
    from merlb_model.training.train import train as stage

    here = _here(context)
    params = here.params
    stage(
        here.store,
        here.splits,
        here.train_rows,
        params.model,
        params.train,
        here.models,
        default_uri(),
        checkpoints=here.root / ".merlb/checkpoints",
    )


@app.command()
def evaluate(context: typer.Context) -> None:
    """Score the model: F1, UAR, calibration, figures."""
    from merlb_model.evaluation.evaluate import evaluate as stage
    from merlb_model.tracking import default_uri

    here = _here(context)
    stage(here.models, here.store, here.splits, here.params.evaluate, here.reports, default_uri())


@app.command()
def report(context: typer.Context) -> None:
    """Write reports/report.html, a page to pass on."""
    from merlb_model.evaluation.page import report as write

    here = _here(context)
    out = here.reports / "report.html"
    write(here.reports, here.models / "history.csv", out)
    typer.echo(str(out))


@app.command()
def export(context: typer.Context) -> None:
    """Write and register the calibrated SavedModel."""
    from merlb_model.serving.export import export as stage
    from merlb_model.tracking import default_uri

    here = _here(context)
    stage(here.models, here.reports, here.store, here.splits, here.params.export, here.exported, default_uri())


@app.command()
def promote(context: typer.Context) -> None:
    """Put the export into models/serving/<n>."""
    from merlb_model.serving.export import promote as put

    here = _here(context)
    typer.echo(f"promoted: {put(here.exported, here.serving)}")


ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model", help="A SavedModel or a folder of versions  [default: newest of models/serving, else models/export]"
    ),
]
BoxOption = Annotated[str | None, typer.Option(help="The webcam's box in pixels: x1,y1,x2,y2  [default: looked for]")]


def _model_folder(here: Workspace, model: Path | None) -> Path:
    if model is not None:
        return model
    return here.serving if here.serving.is_dir() else here.exported


def _webcams(here: Workspace) -> "dict[str, Webcam]":
    from merlb_model.media.webcam_boxes import read_webcams

    return read_webcams(here.raw / "webcam_boxes.json")


def _box_and_whether_to_look(here: Workspace, source: str, given: str | None) -> "tuple[Box | None, bool]":
    """The webcam's box, as given or as ingest has it; and whether to look for it: its streamer is not known."""
    from merlb_model.serving.live import box_for

    if given:
        return _parse_box(given), False
    box, known = box_for(source, _webcams(here))
    return box, not known and _looks_for_webcam(here)


def _looks_for_webcam(here: Workspace) -> bool:
    return not here.params_file.exists() or here.params.ingest.find_webcam


def _parse_box(text: str) -> "Box":
    numbers = text.split(",")
    if len(numbers) != 4 or not all(number.strip().isdigit() for number in numbers):
        raise MerlbError(f"--box {text}: expected four whole numbers x1,y1,x2,y2, e.g. 480,20,620,140")
    left, top, right, bottom = (int(number) for number in numbers)
    if left >= right or top >= bottom:
        raise MerlbError(f"--box {text}: expected x1 < x2 and y1 < y2")
    return left, top, right, bottom


@app.command()
def predict(
    context: typer.Context,
    clips: Annotated[list[Path], typer.Argument(help="Clips, or folders of clips.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The table to write.")] = Path("predictions.parquet"),
    model: ModelOption = None,
) -> None:
    """Score clips into a Parquet table."""
    from merlb_model.params import ExtractParams
    from merlb_model.serving.predict import predict as score
    from merlb_model.serving.scorer import Scorer, find_model

    here = _here(context)
    params = here.params.extract if here.params_file.exists() else ExtractParams()
    scorer = Scorer.load(find_model(_model_folder(here, model)))
    typer.echo(str(score(clips, scorer, _webcams(here), out, params, _looks_for_webcam(here))))


@app.command()
def compress(
    context: typer.Context,
    max_error: Annotated[
        float, typer.Option(help="Greatest relative error of the fusion's matrix (Frobenius norm).")
    ] = 0.05,
    out: Annotated[Path | None, typer.Option(help="The folder to write  [default: models/compressed]")] = None,
) -> None:
    """Round the fusion to lower ranks; show F1."""
    from merlb_model.serving.compress import compress as shrink

    here = _here(context)
    batch_size = here.params.evaluate.batch_size
    target = out or here.models / "compressed"
    typer.echo(str(shrink(here.models, here.store, here.splits, max_error, batch_size, target)))


@app.command()
def explain(
    context: typer.Context,
    clip: Annotated[Path, typer.Argument(help="The clip.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The PNG to write.")] = Path("explain.png"),
    box: BoxOption = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="A folder with merlb.keras and run.json  [default: models]")
    ] = None,
) -> None:
    """Draw which modalities an answer rests on."""
    from merlb_model.params import ExtractParams
    from merlb_model.serving.explain import explain as draw
    from merlb_model.serving.explain import said

    here = _here(context)
    webcam, look = _box_and_whether_to_look(here, clip.name, box)
    params = here.params.extract if here.params_file.exists() else ExtractParams()
    typer.echo(f"{said(draw(clip, model or here.models, here.reports, webcam, params, out, look))}: {out}")


@app.command()
def live(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="A file or a stream's URL.")],
    box: BoxOption = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    model: ModelOption = None,
) -> None:
    """Score a recording or stream, a line a second."""
    from merlb_model.params import ExtractParams
    from merlb_model.serving.live import print_stream
    from merlb_model.serving.scorer import Scorer, find_model

    here = _here(context)
    webcam, look = _box_and_whether_to_look(here, source, box)
    params = here.params.extract if here.params_file.exists() else ExtractParams()
    scorer = Scorer.load(find_model(_model_folder(here, model)))
    print_stream(source, scorer, webcam, look, params.minimum_seconds, json_lines=json)


@app.command()
def serve(
    context: typer.Context,
    host: Annotated[
        str, typer.Option(help="The address to listen on; the default is reached from this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8080,
    model: ModelOption = None,
) -> None:
    """Serve the newest promoted model over HTTP."""
    from merlb_model.serving.server import serve as run_server

    run_server(model or _here(context).serving, host, port)


@app.command()
def run(context: typer.Context) -> None:
    """Run what has changed of the pipeline."""
    from merlb_model.workflow import reproduce

    here = _here(context)
    changed = reproduce(here.root)
    if not changed:
        typer.echo("Nothing changed: data, code and parameters are those of the last run.")
    _results(here)


@app.command()
def results(context: typer.Context) -> None:
    """Show the F1 table and what to do next."""
    _results(_here(context))


def _results(here: Workspace) -> None:
    from merlb_model.files import read_json
    from merlb_model.results import results_table
    from merlb_model.tracking import default_uri
    from merlb_model.workflow import NEXT_STEPS, recreate_if_unknown

    metrics = read_json(here.reports / "metrics.json", "make run")
    meta = read_json(here.store / "meta.json", "make run")
    recreate_if_unknown(default_uri(), here.models, here.reports, here.exported, here.params.export)
    typer.echo(results_table(metrics, synthetic=meta["source"] == "sample"))
    typer.echo(NEXT_STEPS)


@app.command("cross-validate")
def cross_validate(
    context: typer.Context,
    folds: Annotated[int, typer.Option(help="Folds over streamers.", min=2)] = 5,
    leave_one_streamer_out: Annotated[
        bool, typer.Option("--leave-one-streamer-out", help="A fold a streamer.")
    ] = False,
) -> None:
    """Test every clip once; goes on if stopped.

    Each fold goes through oversample, train and evaluate, with params.yaml. The folds' files stay in
    .merlb/cross_validation; reports/cross_validation gets predictions.parquet and scores.json.
    """
    from merlb_model.files import read_json
    from merlb_model.results import cross_validation_table
    from merlb_model.tracking import default_uri
    from merlb_model.training.cross_validate import cross_validate as validate_folds

    here = _here(context)
    kept, out = here.root / ".merlb/cross_validation", here.reports / "cross_validation"
    count = None if leave_one_streamer_out else folds
    scores = validate_folds(here.store, here.validation, here.params, count, kept, out, default_uri())
    meta = read_json(here.store / "meta.json", "make run")
    typer.echo(cross_validation_table(scores, synthetic=meta["source"] == "sample"))
    typer.echo(f"written: {out}")


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="predictions.parquet of a model, or its folder.")],
    second: Annotated[Path, typer.Argument(help="The other model's.")],
) -> None:
    """Test whether two models differ on the same clips.

    By paired permutation of whole streamers, corrected for the number of tasks (Holm).
    """
    from merlb_model.evaluation.compare import compare as test_pair

    typer.echo(str(test_pair(first, second)))


@app.command()
def describe(
    context: typer.Context,
    fusion: Annotated[str | None, typer.Option(help="early, late, joint, deep or merlb.")] = None,
    tasks: Annotated[str | None, typer.Option(help="both, emo or game.")] = None,
    preset: Annotated[str | None, typer.Option(help="small or paper.")] = None,
) -> None:
    """Say what the network costs, layer by layer.

    What is not given is as in the section `model` of params.yaml.
    """
    from merlb_model.params import ModelParams, parse_section

    here = _here(context)
    kept = here.params.model.model_dump() if here.params_file.exists() else {}
    given = {name: value for name, value in (("fusion", fusion), ("tasks", tasks), ("preset", preset)) if value}
    params = parse_section(ModelParams, {**kept, **given}, "merlb describe")

    from merlb_model.nn.describe import description  # after the check: TensorFlow takes seconds to import

    typer.echo(description(params))


@app.command()
def study(
    context: typer.Context,
    smoke: Annotated[bool, typer.Option("--smoke", help="Too small to say anything; for tests.")] = False,
    out: Annotated[Path | None, typer.Option(help="The page to write  [default: docs/results.md]")] = None,
    workers: Annotated[int, typer.Option(help="Processes; 0: one a core.", min=0)] = 0,
) -> None:
    """Run the study of docs/study.md, or go on with it."""
    import os

    from merlb_model.study.command import study as run_study
    from merlb_model.study.protocol import SMOKE, STUDY
    from merlb_model.tracking import default_uri

    here = _here(context)
    protocol = SMOKE if smoke else STUDY
    page = out or here.root / ("build/study-smoke/results.md" if smoke else "docs/results.md")
    paper = here.root / "docs/paper_f1.csv"
    workers = workers or len(os.sched_getaffinity(0))
    for finding in run_study(protocol, here.root / ".merlb/study", paper, page, workers, default_uri()):
        typer.echo(f"{finding.claim} {finding.verdict:<13} {finding.text}")
    typer.echo(f"written: {page}")


@app.command()
def prune(context: typer.Context) -> None:
    """Remove decoded shards of earlier versions."""
    from merlb_model.dataset.prune import prune as remove

    here = _here(context)
    count, freed = remove(here.extracted, here.shards)
    typer.echo(f"{count} shard(s) removed from {here.shards}, {freed / 1e6:.0f} MB")


@app.command()
def doctor(context: typer.Context) -> None:
    """Say what is missing on this machine."""
    from merlb_model.doctor import examine

    findings = examine(_here(context).root)
    for finding in findings:
        typer.echo(finding.line)
    if any(finding.blocks for finding in findings):
        raise typer.Exit(1)


@app.command()
def capture(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="A file, or a URL: Twitch, HLS, RTMP.")],
    streamer: Annotated[str, typer.Option(help="Who broadcasts.")],
    name: Annotated[str, typer.Option("--source", help="The folder's name in data/sources.")],
    game: Annotated[str, typer.Option(help="What is played.")] = "",
    seconds: Annotated[float | None, typer.Option(help="Stop after so much of the stream.", min=5)] = None,
    limit_gb: Annotated[
        float | None,
        typer.Option(help="Stop when the folder's clips hold so much  [default: 1 GB of disk left]", min=0),
    ] = None,
    patience: Annotated[float, typer.Option(help="Seconds to wait for a stream that broke off.", min=0)] = 300.0,
) -> None:
    """Cut a recording or stream into clips of 5 s.

    They go to data/sources/<name>/clips. Ctrl-C stops; the next capture goes on numbering.
    """
    from merlb_model.corpus.capture import Limits, source_folder
    from merlb_model.corpus.capture import capture as cut

    folder = source_folder(_here(context).root / "data/sources", name)
    done = cut(source, folder, streamer, game, Limits.of(seconds, limit_gb, patience))
    typer.echo(f"{folder / 'clips'}: {done.line}")
    typer.echo(f"next: merlb label {name}")


@app.command()
def label(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The folder's name in data/sources.")],
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
) -> None:
    """Label own clips in the browser.

    Every answer goes to labels/<annotator>.csv and annotations.csv at once. Ctrl-C stops.
    """
    import webbrowser

    from merlb_model.corpus.capture import source_folder
    from merlb_model.corpus.label_server import serve as run_page

    def opened(address: str) -> None:
        print(f"merlb label: {address} labels {folder}; Ctrl-C stops, every answer is kept", flush=True)
        if browser:
            webbrowser.open(address)

    folder = source_folder(_here(context).root / "data/sources", name)
    run_page(folder, name, port, opened)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; an error is one line on stderr and exit code 1, Ctrl-C is 130."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        app(words, prog_name="merlb")
    except (MerlbError, OSError) as error:
        if "--debug" in words:
            raise
        typer.echo(f"merlb: {' '.join(str(error).split())}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
