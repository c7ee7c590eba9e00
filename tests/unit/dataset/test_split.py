from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mutual_info_score

from merlb_model.dataset.split import split, split_distances
from merlb_model.dataset.store import PRESENT_COLUMNS, create_arrays, open_store, seal_store
from merlb_model.errors import MerlbError
from merlb_model.labels import TASKS
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


# --- Stratified -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def skewed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of forty streamers of 1 to 6 clips, each with leanings of its own; some classes are rare."""
    rng = np.random.default_rng(3)
    names = [f"s{number:02d}" for number in range(40) for _ in range(1 + number % 6)]
    columns = {"file": [f"{index}_{name}_x.mp4" for index, name in enumerate(names)], "streamer": names}
    clips = pd.DataFrame({**columns, "game": "", "table": ["training", "testing"] * (len(names) // 2)})
    for task, classes in TASKS.items():
        common = np.linspace(1.0, 0.1, len(classes))
        leanings = {name: rng.dirichlet(0.7 * common) for name in sorted(set(names))}
        clips[task] = [str(rng.choice(classes, p=leanings[name])) for name in names]
    clips = clips.assign(valid_frames=20, **dict.fromkeys(PRESENT_COLUMNS, True))
    store = tmp_path_factory.mktemp("skewed") / "store"
    store.mkdir()
    seal_store(store, create_arrays(store, len(clips)), clips, {})
    return store


def stray(store: Path, table: pd.DataFrame) -> float:
    """What the split tells of the labels, in nats, all tasks together (scikit-learn): 0 where it tells nothing."""
    clips = open_store(store).clips
    return sum(float(mutual_info_score(table["split"], clips[task])) for task in TASKS)


def splits_of(store: Path, params: SplitParams) -> pd.DataFrame:
    out = store.parent / "skewed.parquet"
    split(store, params, out)
    return pd.read_parquet(out)


def test_a_stratified_split_strays_less_from_the_class_shares_than_any_of_fifty_random_ones(skewed: Path) -> None:
    random = [stray(skewed, splits_of(skewed, SplitParams(seed=seed))) for seed in range(50)]
    dealt = [stray(skewed, splits_of(skewed, SplitParams(seed=seed, stratify=True))) for seed in range(5)]
    assert max(dealt) < min(random)
    assert np.mean(dealt) < np.median(random) / 3


def test_a_stratified_split_keeps_streamers_whole_their_number_and_the_shares_of_clips(skewed: Path) -> None:
    table = splits_of(skewed, SplitParams(stratify=True))
    assert table.groupby("streamer")["split"].nunique().max() == 1
    assert table.groupby("split")["streamer"].nunique().to_dict() == {"test": 10, "train": 24, "validation": 6}
    shares = table["split"].value_counts(normalize=True)
    assert shares["test"] == pytest.approx(0.25, abs=0.05) and shares["validation"] == pytest.approx(0.15, abs=0.05)


def test_the_seed_decides_a_stratified_split(skewed: Path) -> None:
    first = splits_of(skewed, SplitParams(seed=1, stratify=True))
    assert splits_of(skewed, SplitParams(seed=1, stratify=True)).equals(first)
    assert not splits_of(skewed, SplitParams(seed=2, stratify=True)).equals(first)


def test_a_stratified_published_split_leaves_the_testing_table_alone(skewed: Path) -> None:
    table = splits_of(skewed, SplitParams(mode="published", stratify=True))
    testing = open_store(skewed).clips["table"] == "testing"
    assert ((table["split"] == "test") == testing).all()
    assert table[~testing].groupby("streamer")["split"].nunique().max() == 1
    assert Counter(table.loc[~testing, "split"]).keys() == {"train", "validation"}


def test_three_streamers_fill_three_splits_stratified_too(tmp_path: Path) -> None:
    assert set(run(tmp_path, SplitParams(stratify=True), 3)["split"]) == {"train", "validation", "test"}


def test_the_distance_of_splits_is_as_worked_out_by_hand() -> None:
    # Two splits of 4 and 2 clips, two classes (3 and 3 in all): p = 3/4, 1/4 and 0, 1 against q = 1/2, 1/2:
    # (1/4)² / (1/2) twice + (1/2)² / (1/2) twice = 1/4 + 1.
    # Shares of clips 2/3, 1/3 against 1/2, 1/2: 2 (1/6)² / (1/2) = 1/9.
    totals = np.array([[3.0, 1.0, 4.0], [0.0, 2.0, 2.0]])
    assert split_distances(totals, np.array([0.5, 0.5])) == pytest.approx(0.25 + 1 + 1 / 9)
