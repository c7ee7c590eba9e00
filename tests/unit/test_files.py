import errno
import hashlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from merlb_model.errors import MerlbError
from merlb_model.files import copy_file, read_json, remove_partials, replacing, sha256_of_file, write_json


def test_a_block_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(RuntimeError), replacing(target) as fresh:
        fresh.mkdir()
        (fresh / "new").touch()
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for name in ("first", "second"):
        with replacing(target) as fresh:
            fresh.mkdir()
            (fresh / name).touch()
    assert [path.name for path in target.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [target]


def _write_forever(target: str) -> None:
    with replacing(Path(target)) as fresh:
        fresh.write_text("half")
        time.sleep(60)


@contextmanager
def _writer_at_work(target: Path) -> Iterator[BaseProcess]:
    process = multiprocessing.get_context("fork").Process(target=_write_forever, args=(str(target),))
    process.start()
    deadline = time.monotonic() + 20
    while not any(half.stat().st_size for half in target.parent.glob(".out.txt.*/out.txt")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield process
    process.kill()
    process.join()


def test_a_kill_leaves_the_old_file_and_what_it_left_can_be_swept(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")
    with _writer_at_work(target):
        pass
    assert target.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    remove_partials(tmp_path)
    assert list(tmp_path.iterdir()) == [target]


def test_the_next_writer_removes_what_a_killed_one_left_and_nothing_of_one_at_work(tmp_path: Path) -> None:
    target, other = tmp_path / "out.txt", tmp_path / "other.txt"
    with _writer_at_work(target):
        (at_work,) = tmp_path.iterdir()
        for one in (target, other):
            with replacing(one) as fresh:
                fresh.write_text("new")
        assert (at_work / "out.txt").read_text() == "half"
    with replacing(other) as fresh:
        fresh.write_text("newer")
    assert at_work.exists(), "another target's writer leaves it alone"
    with replacing(target) as fresh:
        fresh.write_text("newer")
    assert sorted(tmp_path.iterdir()) == [other, target]


def test_json_is_whole_sorted_and_never_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [2]})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    2\n  ],\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert read_json(tmp_path / "a.json", "x") == {"a": [2], "b": 1}


def test_a_missing_or_broken_json_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(MerlbError, match="run `merlb split` first"):
        read_json(tmp_path / "none.json", "merlb split")
    (tmp_path / "cut.json").write_text('{"a": ')
    with pytest.raises(MerlbError, match="is not JSON"):
        read_json(tmp_path / "cut.json", "merlb split")


def test_a_files_hash_is_that_of_its_bytes(tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    (tmp_path / "a").write_bytes(content)
    assert sha256_of_file(tmp_path / "a") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("content", [b"", b"film" * 100_000])
@pytest.mark.parametrize("way", ["shared", "plain", "cut short"])
def test_a_copy_has_the_content_and_may_be_written_whatever_the_file_system_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, way: str
) -> None:
    def cannot(*_: object) -> int:
        if way == "plain":
            raise OSError(errno.EXDEV, "not between these")
        return 0

    if way != "shared":
        monkeypatch.setattr(os, "copy_file_range", cannot)
    (tmp_path / "source").write_bytes(content)
    (tmp_path / "source").chmod(0o444)
    copy_file(tmp_path / "source", tmp_path / "deep" / "copy")
    assert (tmp_path / "deep" / "copy").read_bytes() == content
    assert (tmp_path / "deep" / "copy").stat().st_mode & 0o777 == 0o644
