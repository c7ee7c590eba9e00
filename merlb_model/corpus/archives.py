"""Archives of a corpus, unpacked as what they are: files from strangers."""

import errno
import gzip
import io
import os
import re
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, Final, cast

from merlb_model.corpus.problems import printable
from merlb_model.errors import MerlbError
from merlb_model.params import IngestParams
from merlb_model.progress import track

ARCHIVE_SUFFIXES: Final = (".zip", ".tar", ".tgz", ".tar.gz")
_MEGABYTE: Final = 1 << 20
_LONGEST_READ: Final = 16 * _MEGABYTE
"""More than any header of an archive needs; clips are read in smaller blocks."""
_LONGEST_PART: Final = 255
_LONGEST_NAME: Final = 2048
_BROKEN: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,  # also UnicodeError
    OverflowError,
    IndexError,
    FileExistsError,
    NotADirectoryError,  # a file and a folder of one name
    RuntimeError,  # also NotImplementedError and RecursionError: a method, or a chain of headers, that nobody uses
)
"""What Python's readers raise at an archive that is damaged or made to break them."""


@dataclass(frozen=True)
class _Member:
    """A file or a folder in an archive.

    Attributes:
        name: as the archive spells it.
        size: bytes, unpacked, as its header says.
        packed: bytes that it takes in the archive, where the archive says.
        place: bytes of the archive up to its content.
        open: gives its content; None for a folder.
    """

    name: str
    size: int
    packed: int | None
    place: int
    open: Callable[[], IO[bytes] | None] | None


def is_archive(path: Path) -> bool:
    """Whether the name ends as an archive's that `unpack` reads."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def unpack(archive: Path, out: Path, params: IngestParams, wanted: Callable[[str], bool]) -> None:
    """Unpack the files whose name (the last part) is ``wanted`` into ``out``, and show how long the rest takes.

    Nothing is written outside ``out``. Every member is looked at, wanted or not.

    Raises:
        MerlbError: the archive is damaged, a member's name leads out of it, a member is a link, a device, encrypted or
            there twice, or the whole is larger than ``params`` allow (a bomb). The member is named.
    """
    megabytes = -(-archive.stat().st_size // _MEGABYTE)
    for _ in track(_unpacked(archive, out, params, wanted), f"unpack {archive.name}", megabytes, unit="MB"):
        pass


def _unpacked(archive: Path, out: Path, params: IngestParams, wanted: Callable[[str], bool]) -> Iterator[None]:
    """Unpack, and yield once for each megabyte of the archive that is done."""
    out.mkdir(parents=True)
    guard = _Guard(archive, out, params)
    done = 0
    members = _zip_members if archive.name.lower().endswith(".zip") else _tar_members
    try:
        with closing(members(archive)) as found:
            for member in found:
                guard.check(member)
                if member.open and wanted(PurePosixPath(member.name).name):
                    guard.write(member, out / member.name)
                while done < member.place // _MEGABYTE:
                    done += 1
                    yield
    except (*_BROKEN, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, _BROKEN) and error.errno != errno.EINVAL:
            raise  # the disk's, not the archive's; a seek to before its beginning is the archive's
        where = f" after {printable(guard.last)!r}" if guard.last else ""
        raise MerlbError(
            f"{archive}{where}: {' '.join(str(error).split()) or type(error).__name__}; "
            "expected a whole .zip, .tar or .tar.gz: fetch it again"
        ) from None


class _Guard:
    """Holds an archive's members to what a corpus can be."""

    def __init__(self, archive: Path, out: Path, params: IngestParams) -> None:
        self._archive, self._params = archive, params
        self._bytes_packed = max(1, archive.stat().st_size)
        self._most = min(int(params.archive_gigabytes * 1e9), shutil.disk_usage(out).free)
        self._total = 0
        self._members = 0
        self._files: set[str] = set()
        self.last = ""

    def check(self, member: _Member) -> None:
        """Raises: MerlbError: the member is not one to unpack, or the sizes are a bomb's."""
        name = member.name
        self.last = name
        parts = name.split("/")
        if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or re.match("[A-Za-z]:", name):
            raise self._refusal(name, "its name leads out of the archive", "a plain relative name")
        if len(os.fsencode(name)) > _LONGEST_NAME or len(os.fsencode(max(parts, key=len))) > _LONGEST_PART:
            raise self._refusal(name, "its name is longer than file systems take", f"{_LONGEST_PART} bytes at most")
        self._members += 1
        if self._members > self._params.archive_members:
            raise self._refusal(name, f"it is member {self._members}", "ingest.archive_members at most")
        if member.open is None:
            return
        plain = str(PurePosixPath(name))
        if plain in self._files:
            raise self._refusal(name, "it is there twice", "each file once")
        self._files.add(plain)
        self._check_sizes(name, member)

    def _check_sizes(self, name: str, member: _Member) -> None:
        self._total += member.size
        if self._total > self._most:
            raise self._refusal(
                name,
                f"with it {self._total / 1e9:.1f} GB would be unpacked",
                f"{self._most / 1e9:.1f} GB at most (ingest.archive_gigabytes, and what the disk has free)",
            )
        self._check_ratio(name, member.size, member.packed)
        self._check_ratio(name, self._total, self._bytes_packed)

    def _check_ratio(self, name: str, size: int, packed: int | None) -> None:
        if packed is not None and size > _MEGABYTE and size > self._params.archive_ratio * packed:
            ratio = f"{size / max(1, packed):,.0f} times its packed size"
            raise self._refusal(name, f"it grows to {ratio}", "ingest.archive_ratio times at most: clips hardly shrink")

    def write(self, member: _Member, target: Path) -> None:
        """Write the content, and no more of it than the header promises."""
        target.parent.mkdir(parents=True, exist_ok=True)
        content = member.open() if member.open else None
        assert content is not None, member.name
        with content, target.open("xb") as file:
            left = member.size
            while block := content.read(min(_MEGABYTE, left + 1)):
                left -= len(block)
                if left < 0:
                    raise self._refusal(member.name, "it is larger than its header says", f"{member.size} bytes")
                file.write(block)
        if left:
            raise self._refusal(member.name, f"{left} bytes are missing", f"{member.size} bytes: fetch it again")

    def _refusal(self, name: str, found: str, expected: str) -> MerlbError:
        return MerlbError(
            f"{self._archive}: {printable(name)[:200]!r}: {found}; expected {expected}; nothing was taken from it"
        )


# --- Zip --------------------------------------------------------------------------------------------------------------


def _zip_members(archive: Path) -> Generator[_Member]:
    with zipfile.ZipFile(archive) as file:
        done = 0
        for info in file.infolist():
            _check_zip_kind(archive, info)
            opening = None if info.is_dir() else partial(file.open, info)
            yield _Member(info.filename, info.file_size, info.compress_size, done, opening)
            done += info.compress_size


def _check_zip_kind(archive: Path, info: zipfile.ZipInfo) -> None:
    kind = info.external_attr >> 16 & 0o170000  # Unix' kind of file, 0 where another system made the archive
    if kind not in {0, 0o100000, 0o040000}:
        raise MerlbError(f"{archive}: {info.filename!r}: it is a link or a device; expected files and folders only")
    if info.flag_bits & 1:
        raise MerlbError(f"{archive}: {info.filename!r}: it is encrypted; unpack it to a folder and name that")


# --- Tar --------------------------------------------------------------------------------------------------------------


class _ShortReads(io.RawIOBase):
    """A file whose reader may not ask for much at once: tarfile takes headers of any size into memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= _LONGEST_READ:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _tar_members(archive: Path) -> Generator[_Member]:
    with archive.open("rb") as packed:
        zipped = packed.read(2) == b"\x1f\x8b"
        packed.seek(0)
        plain = cast("BinaryIO", gzip.GzipFile(fileobj=packed) if zipped else packed)
        with tarfile.open(fileobj=cast("Any", _ShortReads(plain)), mode="r:") as file:
            for info in file:
                if info.size < 0 or info.issparse() or not (info.isreg() or info.isdir()):
                    raise MerlbError(
                        f"{archive}: {info.name!r}: it is a link, a device or a sparse file; "
                        "expected files and folders only"
                    )
                opening = None if info.isdir() else partial(file.extractfile, info)
                yield _Member(info.name, info.size, None, packed.tell(), opening)
