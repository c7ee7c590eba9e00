import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from merlb_model.errors import MerlbError
from merlb_model.evaluation.page import report
from merlb_model.evaluation.report import draw_history
from merlb_model.evaluation.slices import COLUMNS
from merlb_model.files import read_json, write_json
from merlb_model.labels import SUBSETS, TASKS

ROGUE = "<script>alert('x')</script>"
HISTORY = pd.DataFrame({"epoch": [1, 2, 3], "loss": [3.0, 2.0, 1.0], "validation_macro_f1": [0.2, 0.625, 0.5]})


def scores(task: str, n: int) -> dict[str, Any]:
    score = 0.75 if n else None
    honest = {"ece": score, "nll": 1.5 if n else None, "brier": score}
    each = {"f1": score, "precision": score, "recall": score, "n": n}
    return {
        "n": n,
        "macro_f1": score,
        "weighted_f1": score,
        "uar": score,
        "ci95": [0.5, 0.875] if n else None,
        "calibration": {**honest, "before": honest},
        "per_class": {label: dict(each) for label in TASKS[task]},
    }


def metrics(n: int = 4, **changed: Any) -> dict[str, Any]:
    score = 0.25 if n else None
    content = {
        "schema_version": 1,
        "store_hash": "a" * 64,
        "weights_hash": "b" * 64,
        "git": "c0ffee",
        "source": "folder",
        "split": {"train": ["anna"], "validation": [], "test": [ROGUE, "007"] if n else []},
        "intervals": {"over": "clips", "draws": 1000},
        "tasks": {task: scores(task, n) for task in TASKS},
        "subsets": {subset: dict.fromkeys(TASKS, score) for subset in SUBSETS},
        "baselines": {
            "majority": {task: {"label": TASKS[task][0], "macro_f1": score, "accuracy": score} for task in TASKS},
            "streamer_majority": {task: {"macro_f1": score, "accuracy": score} for task in TASKS},
            "streamer_probe": {
                "streamers": 5,
                "clips": 50,
                "chance": 0.2,
                "from_labels": 0.31,
                "from_labels_and_answers": 0.32,
            },
        },
    }
    return {**content, **changed}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What `evaluate` leaves, small, with names that want to be more than names; ``history.csv`` beside."""
    names = [ROGUE, "007", "NA"]
    rows = [("streamer", name, task, 2, 0.5, 0.125) for name in names for task in TASKS]
    rows += [("game", "", task, 4, 0.5, 0.125) for task in TASKS]
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(tmp_path / "slices.csv", index=False)
    write_json(tmp_path / "metrics.json", metrics())
    write_json(tmp_path / "calibration.json", {"temperature": dict.fromkeys(TASKS, 1.125)})
    draw_history(tmp_path / "figures/training.png", HISTORY)
    for name in ("reliability", *(f"confusion_{task}" for task in TASKS)):
        shutil.copy(tmp_path / "figures/training.png", tmp_path / f"figures/{name}.png")
    HISTORY.to_csv(tmp_path / "history.csv", index=False)
    return tmp_path


def written(folder: Path) -> str:
    report(folder, folder / "history.csv", folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


class Elements(HTMLParser):
    """Elements of a page, those that are still open, and its text."""

    VOID = frozenset({"meta", "img", "br", "line", "circle"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_nothing_beside_it_and_every_element_is_closed(folder: Path) -> None:
    page = Elements(written(folder))
    assert page.open == []
    images = [attributes["src"] for tag, attributes in page.found if tag == "img"]
    assert len(images) == 5 and all(str(source).startswith("data:image/png;base64,iVBOR") for source in images)
    assert not {tag for tag, _ in page.found} & {"script", "link", "iframe", "object"}
    assert not [name for _, attributes in page.found for name in attributes if name == "href" or name.startswith("on")]
    assert not re.search(r"url\(|@import|https?:", written(folder))


def test_names_are_text_whatever_they_hold(folder: Path) -> None:
    page = written(folder)
    assert ROGUE not in page and Elements(page).text.count(ROGUE) == 2  # of the split and of the slices
    assert re.findall(r'<th scope="row">(007|NA|not named)</th>', page) == ["007", "NA", "not named"]


def test_a_streamer_called_by_a_number_keeps_its_noughts(folder: Path) -> None:
    rows = [(by, "007", task, 2, 0.5, 0.125) for by in ("streamer", "game") for task in TASKS]
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(folder / "slices.csv", index=False)
    assert re.findall(r'<th scope="row">(0*7)</th>', written(folder)) == ["007", "007"]


def test_every_part_has_its_figures(folder: Path) -> None:
    text = " ".join(Elements(written(folder)).text.split())
    for said in (
        "0.500 to 0.875", "b" * 64, "a" * 64, "c0ffee", "anna", "1.125", "1.500", "0.125", *TASKS["event"],
        "face + screen + audio", "of 50 training clips", "tells 5 streamers apart", "0.310", "0.320", "0.200",
        "3 epochs; the best by validation macro-F1 is epoch 2, with 0.625", "drawn over clips",
    ):  # fmt: skip
        assert said in text, said
    assert "synthetic" not in text


def test_classes_stand_in_their_tasks_order(folder: Path) -> None:
    rows = re.findall(
        r'<th scope="row">(\w+)</th><td>4</td><td>0.750</td><td>0.750</td><td>0.750</td>', written(folder)
    )
    assert rows == [label for classes in TASKS.values() for label in classes]


def test_a_synthetic_corpus_is_called_one(folder: Path) -> None:
    write_json(folder / "metrics.json", metrics(source="sample"))
    assert "The corpus is synthetic." in written(folder)


def test_without_test_clips_or_a_probe_it_is_still_a_page(folder: Path) -> None:
    nothing = metrics(0)
    nothing["baselines"]["streamer_probe"] = None
    write_json(folder / "metrics.json", nothing)
    pd.DataFrame(columns=list(COLUMNS)).to_csv(folder / "slices.csv", index=False)
    (folder / "figures/reliability.png").unlink()
    page = Elements(written(folder))
    assert page.open == [] and "no test clips" in page.text and "Too few training streamers" in page.text
    assert len([tag for tag, _ in page.found if tag == "img"]) == 4


def test_a_model_of_one_task_has_a_page_of_one(folder: Path) -> None:
    content = metrics()
    for part in (content["tasks"], *content["subsets"].values()):
        for task in ("valence", "arousal"):
            del part[task]
    write_json(folder / "metrics.json", content)
    assert "valence" not in Elements(written(folder)).text


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("metrics.json", r"metrics\.json is missing: run `merlb evaluate` first"),
        ("calibration.json", r"calibration\.json is missing: run `merlb evaluate` first"),
        ("slices.csv", r"slices\.csv is missing: run `merlb evaluate` first"),
        ("figures/reliability.png", r"reliability\.png is missing: run `merlb evaluate` first"),
        ("figures/confusion_event.png", r"confusion_event\.png is missing: run `merlb evaluate` first"),
        ("history.csv", r"history\.csv is missing: run `merlb train` first"),
    ],
)
def test_what_is_missing_is_named_and_no_page_is_left(folder: Path, lost: str, message: str) -> None:
    (folder / lost).unlink()
    with pytest.raises(MerlbError, match=message):
        report(folder, folder / "history.csv", folder / "report.html")
    assert not (folder / "report.html").exists()


def test_what_an_earlier_evaluate_left_is_refused(folder: Path) -> None:
    old = read_json(folder / "metrics.json", "")
    del old["subsets"], old["baselines"]
    write_json(folder / "metrics.json", old)
    with pytest.raises(MerlbError, match=r"no subsets, baselines, .*: run `merlb evaluate` again"):
        report(folder, folder / "history.csv", folder / "report.html")
    (folder / "slices.csv").write_text("")
    write_json(folder / "metrics.json", metrics())
    with pytest.raises(MerlbError, match=r"slices\.csv: .*: run `merlb evaluate` again"):
        report(folder, folder / "history.csv", folder / "report.html")
