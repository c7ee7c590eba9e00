"""People's clips and labels under DVC: pushed, pulled into a second clone, and what is decoded again when."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from merlb_model.corpus.annotations import read_rows, write_rows
from merlb_model.files import read_json, replacing, write_json
from tests.checkouts import git, make_checkout, run
from tests.media_clips import write_media
from tests.unit.corpus.test_annotations import row

pytestmark = pytest.mark.slow
MINE = Path("data/sources/mine")
STREAMERS = ("ann", "bob", "cat", "dan")
CLIPS = 12
BOXES = {name: [0, 0, 48, 32] for name in (*STREAMERS, "solo")}


def write_source(source: Path) -> None:
    """Twelve clips of four streamers, their labels and webcam boxes."""
    source.mkdir(parents=True)
    names = [f"{number}_{STREAMERS[number % len(STREAMERS)]}_x.mp4" for number in range(CLIPS)]
    for number, name in enumerate(names):
        write_media(source / name, fps=10, size=(96, 64), tone_hz=200.0 + 50 * number)
    write_rows(source / "annotations.csv", [row(name) for name in names])
    write_json(source / "webcam_boxes.json", BOXES)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose corpus is ``data/sources/mine``, added to DVC and gone through to ``convert``."""
    corpus = {"source": "folder", "path": str(MINE)}
    checkout = make_checkout(tmp_path_factory.mktemp("prepared"), {"corpus": corpus, "extract": {"workers": 1}})
    write_source(checkout / MINE)
    run(checkout, "dvc", "add", "--quiet", str(MINE))
    reproduce(checkout)
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "mine")
    return checkout


@pytest.fixture
def mine(prepared: Path, tmp_path: Path) -> Path:
    """The prepared checkout for this test alone, its links to DVC's cache kept."""
    run(tmp_path, "cp", "--archive", str(prepared), "mine")
    return tmp_path / "mine"


def reproduce(checkout: Path) -> tuple[int, int] | None:
    """`dvc repro` up to the store: how many shards were decoded and found, or None if extract did not run."""
    said = run(checkout, "dvc", "repro", "convert")
    counts = re.search(r"(\d+) shard\(s\) decoded, (\d+) from the cache", said)
    return (int(counts[1]), int(counts[2])) if counts else None


def store_hash(checkout: Path) -> str:
    return str(read_json(checkout / "data/store/meta.json", "test")["store_hash"])


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shard_count(checkout: Path) -> int:
    return len(read_json(checkout / "data/extract/shards.json", "test"))


def push_and_pull(mine: Path, second: Path) -> None:
    """Push without targets, clone with git, pull without targets: what people brought and stages left is there."""
    git(mine, "commit", "--quiet", "--all", "--message", "where data are kept")
    run(mine, "dvc", "push")
    git(mine, "clone", "--quiet", str(mine), str(second))
    assert not (second / MINE).exists()
    run(second, "dvc", "pull", "--allow-missing")
    for folder in (MINE, Path("data/raw"), Path("data/store")):
        assert files_of(second / folder) == files_of(mine / folder)
    assert reproduce(second) is None, "nothing is decoded in the second clone"
    assert store_hash(second) == store_hash(mine)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server on the loopback with a bucket named ``clips``; the server's URL."""
    for name, value in {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    boto3.client("s3", endpoint_url=f"http://{host}:{port}").create_bucket(Bucket="clips")
    yield f"http://{host}:{port}"
    server.stop()


def test_what_people_brought_is_pushed_to_a_folder_and_pulled_by_a_second_clone(mine: Path, tmp_path: Path) -> None:
    run(mine, "dvc", "remote", "add", "--default", "kept", str(tmp_path / "kept"))
    push_and_pull(mine, tmp_path / "second")


def test_what_people_brought_is_pushed_to_s3_and_pulled_by_a_second_clone(
    mine: Path, tmp_path: Path, bucket: str
) -> None:
    run(mine, "dvc", "remote", "add", "--default", "kept", "s3://clips/merlb")
    run(mine, "dvc", "remote", "modify", "kept", "endpointurl", bucket)
    push_and_pull(mine, tmp_path / "second")


def test_a_changed_label_decodes_nothing_and_comes_into_the_store(mine: Path) -> None:
    before = store_hash(mine)
    relabel(mine / MINE / "annotations.csv", 1)
    assert reproduce(mine) == (0, shard_count(mine))
    assert store_hash(mine) != before


def relabel(table: Path, rows: int) -> list[dict[str, str]]:
    """Give the first ``rows`` clips another event, the table replaced as the label page does; all rows."""
    changed = read_rows(table)
    for changing in changed[:rows]:
        changing |= {"Fighting": "0", "Defeated": "1"}
    with replacing(table) as fresh:
        write_rows(fresh, changed)
    return changed


def test_labels_made_by_people_survive_dvc_repro(mine: Path) -> None:
    table = mine / MINE / "annotations.csv"
    wanted = relabel(table, CLIPS)
    reproduce(mine)
    assert read_rows(table) == wanted
    assert read_rows(mine / "data/raw/annotations.csv") == wanted
    relabel(table, 3)
    run(mine, "dvc", "repro", "--force", "convert")
    assert [changed["Defeated"] for changed in read_rows(table)] == ["1"] * CLIPS


def test_one_more_clip_decodes_one_shard(mine: Path) -> None:
    table = mine / MINE / "annotations.csv"
    write_media(mine / MINE / "90_ann_x.mp4", fps=10, size=(96, 64), tone_hz=990.0)
    with replacing(table) as fresh:
        write_rows(fresh, [*read_rows(table), row("90_ann_x.mp4")])
    assert reproduce(mine) == (1, shard_count(mine) - 1)


def test_a_changed_box_decodes_the_shards_of_its_streamer_alone(mine: Path) -> None:
    write_media(mine / MINE / "91_solo_x.mp4", fps=10, size=(96, 64), tone_hz=991.0)
    table = mine / MINE / "annotations.csv"
    with replacing(table) as fresh:
        write_rows(fresh, [*read_rows(table), row("91_solo_x.mp4")])
    reproduce(mine)
    write_json(mine / MINE / "webcam_boxes.json", {**BOXES, "solo": [0, 0, 48, 40]})
    assert reproduce(mine) == (1, shard_count(mine) - 1)


def test_a_changed_clip_decodes_its_shard_alone(mine: Path) -> None:
    clip = mine / MINE / "3_dan_x.mp4"
    shard = hashlib.sha256(clip.read_bytes()).hexdigest()[0]
    content = write_media(mine / "changed.mp4", fps=10, size=(96, 64), tone_hz=700.0).read_bytes()
    padded = (content + (8 + 4).to_bytes(4, "big") + b"free" + n.to_bytes(4, "big") for n in range(10_000))
    with replacing(clip) as fresh:
        fresh.write_bytes(next(found for found in padded if hashlib.sha256(found).hexdigest()[0] == shard))
    assert reproduce(mine) == (1, shard_count(mine) - 1)


def test_dvcs_copy_of_a_table_stays_whole_when_the_table_is_replaced(mine: Path) -> None:
    """DVC links files to its cache: written in place, the old version would be gone."""
    table = mine / MINE / "annotations.csv"
    before = table.read_bytes()
    relabel(table, 5)
    run(mine, "dvc", "checkout", "--force", str(MINE))
    assert table.read_bytes() == before
