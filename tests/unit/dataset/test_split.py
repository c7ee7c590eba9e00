from pathlib import Path

import pandas as pd
import pytest

from merlb_model.dataset.split import split
from merlb_model.errors import MerlbError
from merlb_model.params import SplitParams
from tests.unit.dataset.synthetic_store import write_store


def run(tmp_path: Path, params: SplitParams, streamers: int = 20) -> pd.DataFrame:
    store = tmp_path / f"store-{streamers}"
    if not store.exists():
        write_store(store, streamers, 2)
    split(store, params, tmp_path / "splits.parquet")
    return pd.read_parquet(tmp_path / "splits.parquet")


def test_no_streamer_is_in_two_splits_and_shares_are_kept(tmp_path: Path) -> None:
    table = run(tmp_path, SplitParams(validation=0.15, test=0.25))
    assert table.groupby("streamer")["split"].nunique().max() == 1
    assert table.groupby("split")["streamer"].nunique().to_dict() == {"test": 5, "train": 12, "validation": 3}
    assert list(table.columns) == ["row", "file", "streamer", "split"]


def test_the_seed_decides(tmp_path: Path) -> None:
    first = run(tmp_path, SplitParams(seed=1))
    assert run(tmp_path, SplitParams(seed=1)).equals(first)
    assert not run(tmp_path, SplitParams(seed=2)).equals(first)


def test_three_streamers_fill_three_splits_and_two_are_refused(tmp_path: Path) -> None:
    assert set(run(tmp_path, SplitParams(), 3)["split"]) == {"train", "validation", "test"}
    with pytest.raises(MerlbError, match="2 streamers cannot fill 3 splits"):
        run(tmp_path, SplitParams(), 2)


def test_the_published_split_takes_the_tables_and_draws_validation_from_training(tmp_path: Path) -> None:
    table = run(tmp_path, SplitParams(mode="published"))
    tested = [index % 5 == 0 for index in range(len(table))]
    assert (table["split"] == "test").tolist() == tested
    assert set(table.loc[[not t for t in tested], "split"]) == {"train", "validation"}


def test_all_test_leaves_everything_to_be_scored(tmp_path: Path) -> None:
    assert set(run(tmp_path, SplitParams(mode="all_test"), 2)["split"]) == {"test"}
