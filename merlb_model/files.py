"""Writing so that a kill leaves the old result or the new, and hashing what was written."""

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


@contextmanager
def replacing(target: Path, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; rename it over ``target`` when the block ends well.

    The block makes a file or a folder there. A block that raises leaves ``target`` as it was.

    Args:
        target: what is replaced.
        durable: for a file that no command can make again: it is on the disk, not on its way there, when this ends.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
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
    """Copy the content alone: the copy is ours to write, whatever the source's mode."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o644)
