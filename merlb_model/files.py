"""Writing so that a kill leaves the old result or the new, and hashing what was written."""

import fcntl
import glob
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from merlb_model.errors import MerlbError

_BLOCK_BYTES = 1 << 20
_LONGEST_COPY_BYTES = 1 << 30


@contextmanager
def replacing(target: Path, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; rename it over ``target`` when the block ends well.

    The block makes a file or a folder there. A block that raises leaves ``target`` as it was. What killed writers of
    ``target`` left beside it is removed first.

    Args:
        target: what is replaced.
        durable: for a file that no command can make again: it is on the disk, not on its way there, when this ends.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    holder, lock = _make_holder(target)
    fresh = holder / target.name
    try:
        yield fresh
        if target.is_dir() and not target.is_symlink():
            target.rename(holder / "old")
        if durable:
            _sync(fresh)
        fresh.rename(target)
        if durable:
            _sync(target.parent)
    finally:
        shutil.rmtree(holder, ignore_errors=True)
        _unlock(lock)


def _make_holder(target: Path) -> tuple[Path, int | None]:
    """A folder beside ``target`` to write in, and its lock."""
    while True:
        holder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
        lock = _lock(holder)
        if holder.exists():  # another writer's sweep can have come between the two lines above
            return holder, lock
        _unlock(lock)


def _sweep(target: Path) -> None:
    """Remove the holders that no living writer has locked."""
    for holder in target.parent.glob(f".{glob.escape(target.name)}.*.partial"):
        lock = _lock(holder, fcntl.LOCK_NB)
        if lock is not None:
            shutil.rmtree(holder, ignore_errors=True)
        _unlock(lock)


def _lock(folder: Path, wait: int = 0) -> int | None:
    """Lock a folder until the handle is closed or its process ends; None where it cannot be locked."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | wait)
    except OSError:  # another writer's, or a file system without locks
        os.close(handle)
        return None
    return handle


def _unlock(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_partials(folder: Path, before: float = math.inf) -> None:
    """Remove what killed writers left in ``folder``.

    Args:
        folder: a folder in which no writer that began earlier than ``before`` is at work.
        before: seconds since 1970.
    """
    for holder in folder.glob(".*.partial"):
        if holder.stat().st_ctime < before:
            shutil.rmtree(holder, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as sorted, indented JSON, whole or not at all. NaN is refused."""
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    with replacing(path) as fresh:
        fresh.write_text(text, encoding="utf-8")


def read_json(path: Path, made_by: str) -> Any:
    """Read a JSON file that the command ``made_by`` writes.

    Raises:
        MerlbError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MerlbError(f"{path} is missing: run `{made_by}` first") from None
    except ValueError as error:
        raise MerlbError(f"{path} is not JSON ({error}): run `{made_by}` again") from None


def sha256_of_file(path: Path) -> str:
    """SHA-256 of the file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_json(content: Any) -> str:
    """SHA-256 of ``content``'s canonical JSON: sorted keys, no spaces."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def copy_file(source: Path, target: Path) -> None:
    """Copy the content alone: the copy is ours to write, whatever the source's mode.

    A file system that can share the bytes of two files (Btrfs, XFS) does, until one of them is changed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with source.open("rb") as content, target.open("wb") as copy:
            while os.copy_file_range(content.fileno(), copy.fileno(), _LONGEST_COPY_BYTES):
                pass
        whole = target.stat().st_size == source.stat().st_size
    except (OSError, AttributeError):  # file systems, or a system, without it; or no space, which `copyfile` says
        whole = False
    if not whole:
        shutil.copyfile(source, target)
    target.chmod(0o644)
