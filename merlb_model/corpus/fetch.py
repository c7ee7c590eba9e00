"""A clip by its uri as a file that can be opened: where it lies, or fetched from S3 and the like (fsspec)."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final

from merlb_model.errors import MerlbError

_BLOCK_BYTES: Final = 1 << 20


class ClipTooLargeError(MerlbError):
    """A clip of more bytes than are read."""


def clip_place(uri: str, raw: Path, clips: str | None) -> str:
    """Where the clip of a manifest's ``uri`` lies: below ``clips`` where given, else below ``raw``.

    The one place that turns a uri into something to open: a path, or an address such as ``s3://bucket/clips/1.mp4``.
    """
    name = PurePosixPath(uri).name
    if clips is not None:
        base = clips.removeprefix("file://")
        return f"{base.rstrip('/')}/{name}" if "://" in base else str(Path(base) / name)
    return uri if _is_address(uri) else str(raw / uri.removeprefix("file://"))


def _is_address(place: str) -> bool:
    return "://" in place and not place.startswith("file://")


@contextmanager
def as_file(place: str, folder: Path, maximum_bytes: int) -> Iterator[Path]:
    """``place`` as a path: itself, or a copy in ``folder`` that goes with the block.

    Credentials come from the environment, as the store's own client takes them.

    Raises:
        FileNotFoundError: nothing is there.
        ClipTooLargeError: it has more than ``maximum_bytes``.
        MerlbError: the store cannot be reached, or refuses.
    """
    if not _is_address(place):
        path = Path(place)
        _check_size(path.stat().st_size, maximum_bytes)
        yield path
        return
    with tempfile.NamedTemporaryFile(dir=folder, prefix="fetched.", suffix=PurePosixPath(place).suffix) as copy:
        _fetch(place, copy, maximum_bytes)
        yield Path(copy.name)


def _fetch(place: str, copy: Any, maximum_bytes: int) -> None:
    import fsspec

    base, _, name = place.rpartition("/")  # the name may hold what an address would not: "::", "?"
    try:
        store, root = fsspec.url_to_fs(base)
        with store.open(f"{root}/{name}", "rb", cache_type="none") as remote:
            _check_size(remote.size, maximum_bytes)
            while block := remote.read(_BLOCK_BYTES):
                copy.write(block)
        copy.flush()
    except (FileNotFoundError, MerlbError):
        raise
    except ImportError as error:
        raise MerlbError(f"{place}: {error}") from None
    except Exception as error:  # each store has errors of its own
        said = " ".join(str(error).split()) or type(error).__name__
        raise MerlbError(f"{place}: cannot be fetched: {said}; check the address and the credentials") from None


def _check_size(size: int, maximum_bytes: int) -> None:
    if size > maximum_bytes:
        raise ClipTooLargeError(f"{size} bytes; expected at most {maximum_bytes}")
