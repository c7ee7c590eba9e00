from pathlib import Path

import pytest

from merlb_model.dataset.prune import prune
from merlb_model.errors import MerlbError
from merlb_model.files import write_json


def test_shards_that_no_current_version_names_go_and_the_others_stay(tmp_path: Path) -> None:
    write_json(tmp_path / "extract" / "shards.json", {"0": "new", "a": "same"})
    for name in ("0-old", "0-new", "a-same", ".0-x.abc.partial", "f-gone"):
        (tmp_path / "shards" / name).mkdir(parents=True)
        (tmp_path / "shards" / name / "face.npy").write_bytes(bytes(1000))
    assert prune(tmp_path / "extract", tmp_path / "shards") == (2, 2000)
    assert {path.name for path in (tmp_path / "shards").iterdir()} == {"0-new", "a-same"}
    assert prune(tmp_path / "extract", tmp_path / "shards") == (0, 0)


def test_nothing_is_removed_where_no_extraction_is_known(tmp_path: Path) -> None:
    (tmp_path / "shards" / "0-old").mkdir(parents=True)
    with pytest.raises(MerlbError, match="run `merlb extract` first"):
        prune(tmp_path / "extract", tmp_path / "shards")
    assert (tmp_path / "shards" / "0-old").is_dir()
