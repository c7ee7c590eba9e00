from pathlib import Path

import pytest
import yaml

from merlb_model.errors import MerlbError
from merlb_model.params import load_params

SHIPPED = Path(__file__).parents[2] / "params.yaml"


def changed(tmp_path: Path, section: str, **values: object) -> Path:
    content = yaml.safe_load(SHIPPED.read_text())
    content[section] |= values
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_shipped_parameters_are_valid() -> None:
    params = load_params(SHIPPED)
    assert params.corpus.streamers >= 40 and params.corpus.clips_per_streamer >= 10


@pytest.mark.parametrize(
    ("section", "values", "says"),
    [
        ("train", {"epoch": 3}, "train.epoch"),
        ("train", {"epochs": 0}, "train.epochs"),
        ("split", {"validation": 0.6, "test": 0.5}, "nothing is left to train on"),
        ("corpus", {"source": "folder"}, "needs a path"),
        ("corpus", {"source": "published"}, "published needs a path"),
        ("ingest", {"archive_ratio": 0}, "ingest.archive_ratio"),
        ("model", {"modalities": ["face", "face"]}, "modalities"),
        ("model", {"fusion": "sum"}, "model.fusion"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, section: str, values: dict, says: str) -> None:
    with pytest.raises(MerlbError, match=says) as caught:
        load_params(changed(tmp_path, section, **values))
    assert "\n" not in str(caught.value) and "params.yaml" in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "- 1", "\x00"])
def test_a_file_that_is_no_parameters_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(MerlbError) as caught:
        load_params(tmp_path / "params.yaml")
    assert "\n" not in str(caught.value)
