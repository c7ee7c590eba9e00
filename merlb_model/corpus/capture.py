"""Capture: a recording or a live source becomes clips of 5 s in ``data/sources/<name>/clips``."""

import csv
import fcntl
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from types import FrameType
from typing import IO, Final
from urllib.parse import urlsplit, urlunsplit

from merlb_model.corpus.annotations import is_safe_name
from merlb_model.errors import MerlbError
from merlb_model.files import remove_partials
from merlb_model.media.broadcast import Broadcast, is_network
from merlb_model.media.cutting import CLIP_SECONDS, CutClip, cut_clips
from merlb_model.progress import track

CAPTURED: Final = "captured.csv"
CAPTURED_COLUMNS: Final = ("File", "Streamer", "Game", "Source", "Captured", "Picture")
"""``Picture``: copied (the source's own packets) or encoded (anew). ``Captured``: when its capture began, UTC."""
ENDED: Final = "the source has ended"
MINIMUM_FREE_BYTES: Final = 1 << 30
_MAX_NAME_BYTES: Final = 80
_GIGABYTE: Final = 10**9
_ABANDONED_SECONDS: Final = 3600


@dataclass
class Captured:
    """What a capture came to.

    Attributes:
        copied: clips whose picture is the source's own packets.
        encoded: clips whose picture was encoded anew.
        bytes: of all of them.
        reopened: how often the source had to be opened again.
        ended: why it ended, in words.
    """

    copied: int = 0
    encoded: int = 0
    bytes: int = 0
    reopened: int = 0
    ended: str = ENDED

    @property
    def clips(self) -> int:
        """How many were cut."""
        return self.copied + self.encoded

    @property
    def line(self) -> str:
        """For the person who waits."""
        again = f", reopened {self.reopened} time(s)" if self.reopened else ""
        return (
            f"{self.clips} clip(s), {self.bytes / 1e6:.1f} MB ({self.copied} copied, {self.encoded} encoded anew)"
            f"{again}: {self.ended}"
        )


@dataclass(frozen=True)
class Limits:
    """When a capture stops by itself.

    Attributes:
        seconds: of the stream; None: when it ends.
        bytes: of all clips in the folder; None: when 1 GB is left on the disk.
        patience_seconds: how long a network source that broke off is waited for.
    """

    seconds: float | None = None
    bytes: int | None = None
    patience_seconds: float = 300.0

    @classmethod
    def of(cls, seconds: float | None, gigabytes: float | None, patience_seconds: float) -> "Limits":
        return cls(seconds, None if gigabytes is None else round(gigabytes * _GIGABYTE), patience_seconds)


def source_folder(sources: Path, name: str) -> Path:
    """``data/sources/<name>``.

    Raises:
        MerlbError: ``name`` is no plain name of a folder.
    """
    if not is_safe_name(name) or name.startswith(".") or not name.isprintable():
        raise MerlbError(f"source {name!r}: expected a plain folder name, e.g. my-streams")
    return sources / name


def file_part(streamer: str) -> str:
    """The streamer's name as it may stand between a clip's underscores.

    Raises:
        MerlbError: nothing of it is left, or it is too long.
    """
    part = re.sub(r"[_/\\\s\x00-\x1f\x7f]+", "-", streamer.strip()).strip(".")
    if not part.strip("-") or len(part.encode()) > _MAX_NAME_BYTES or not part.isprintable():
        raise MerlbError(f"streamer {streamer!r}: expected a name of 1 to {_MAX_NAME_BYTES} bytes, e.g. some_body")
    return part


def capture(source: str, folder: Path, streamer: str, game: str = "", limits: Limits | None = None) -> Captured:
    """Cut ``source`` into clips named ``<n>_<streamer>_<when>.mp4``, and note each in ``captured.csv``.

    A clip is written under a temporary name and renamed: whenever this ends, only whole clips are there. TERM and
    Ctrl-C end it after the clip that is being written. Numbers go on from those of earlier captures, and several
    captures may fill one folder at once.

    Args:
        source: a file's path or a URL.
        folder: ``data/sources/<name>``; made if it is not there.
        streamer: their true name; underscores become dashes in the clips' names alone.
        game: kept in ``captured.csv``.
        limits: when to stop.

    Raises:
        MerlbError: the source cannot be opened.
    """
    limits = limits or Limits()
    row = {"Streamer": streamer.strip(), "Game": game, "Source": _noted(source)}
    done = Captured()
    with _stopped_by_signals() as stop:
        broadcast = Broadcast(source, stop, limits.patience_seconds)
        ledger = _Ledger(folder, file_part(streamer), row)
        for clip in _shown(_within(broadcast, limits, done), broadcast, limits):
            if reason := ledger.keep(clip, limits, done):
                done.ended = reason
                break
        done.reopened = broadcast.reopened
        if stop.is_set():
            done.ended = "stopped"
    if not done.clips and done.ended == ENDED:
        raise MerlbError(f"{source}: no clip in it; expected {CLIP_SECONDS} s from a key frame on: give a longer one")
    return done


def _noted(source: str) -> str:
    """The source without what is nobody's business: passwords and keys in a URL, folders before a file."""
    if not is_network(source):
        return Path(source).name
    url = urlsplit(source)
    return urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path, "", ""))


def _within(broadcast: Broadcast, limits: Limits, done: Captured) -> Iterator[CutClip]:
    for clip in cut_clips(broadcast.packets()):
        yield clip
        if limits.seconds is not None and (done.clips + 1) * CLIP_SECONDS > limits.seconds:
            done.ended = f"{limits.seconds:g} s are in"
            return


def _shown(clips: Iterator[CutClip], broadcast: Broadcast, limits: Limits) -> Iterator[CutClip]:
    """The clips, with progress; how many there will be is known once the source is open."""
    first = list(islice(clips, 1))
    lengths = [seconds for seconds in (limits.seconds, broadcast.seconds) if seconds is not None]
    total = int(min(lengths) // CLIP_SECONDS) if lengths else None
    return track(chain(first, clips), "capture", total=total)


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that TERM and Ctrl-C set; a second one does what it does elsewhere."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def ask(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, former[signal.Signals(number)])

    for number in former:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class _Ledger:
    """The folder's clips and ``captured.csv``: numbers, names and limits."""

    def __init__(self, folder: Path, part: str, row: dict[str, str]) -> None:
        began = datetime.now(UTC)
        self._folder = folder
        self._clips = folder / "clips"
        self._ending = f"_{part}_{began:%Y%m%dT%H%M%SZ}.mp4"
        self._row = {**row, "Captured": f"{began:%Y-%m-%dT%H:%M:%SZ}"}

    def keep(self, clip: CutClip, limits: Limits, done: Captured) -> str:
        """Write the clip and note it; or say why there is no room for it."""
        self._clips.mkdir(parents=True, exist_ok=True)
        remove_partials(self._clips, before=time.time() - _ABANDONED_SECONDS)
        with tempfile.TemporaryDirectory(prefix=".cut.", suffix=".partial", dir=self._clips) as holder:
            fresh = Path(holder) / "clip.mp4"
            clip.write(fresh)
            size = fresh.stat().st_size
            if reason := _no_room(self._clips, size, limits):
                return reason
            with self._locked() as table:
                name = f"{self._next_number()}{self._ending}"
                self._note(table, name, clip)
                fresh.rename(self._clips / name)
        done.bytes += size
        done.copied += clip.copied
        done.encoded += not clip.copied
        return ""

    @contextmanager
    def _locked(self) -> Iterator[IO[str]]:
        """``captured.csv``, open to append to, with no other capture in it."""
        with (self._folder / CAPTURED).open("a+", encoding="utf-8", newline="") as table:
            fcntl.flock(table, fcntl.LOCK_EX)
            yield table

    def _next_number(self) -> int:
        numbers = (re.match(r"(\d+)_", clip.name) for clip in self._clips.iterdir())
        return 1 + max((int(number[1]) for number in numbers if number), default=0)

    def _note(self, table: IO[str], name: str, clip: CutClip) -> None:
        end = table.seek(0, os.SEEK_END)
        writer = csv.DictWriter(table, CAPTURED_COLUMNS, lineterminator="\n")
        if not end:
            writer.writeheader()
        writer.writerow({"File": name, **self._row, "Picture": "copied" if clip.copied else "encoded"})
        table.flush()
        os.fsync(table.fileno())


def _no_room(clips: Path, size: int, limits: Limits) -> str:
    used = sum(path.stat().st_size for path in clips.glob("*.mp4"))
    if limits.bytes is not None and used + size > limits.bytes:
        return f"the limit of {limits.bytes / _GIGABYTE:g} GB is reached in {clips}"
    if shutil.disk_usage(clips).free < MINIMUM_FREE_BYTES:
        return f"less than {MINIMUM_FREE_BYTES >> 30} GB is left on the disk of {clips}"
    return ""


def read_captured(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of ``captured.csv`` by file; none where nothing was captured."""
    try:
        with (folder / CAPTURED).open(encoding="utf-8", newline="") as table:
            return {row["File"]: row for row in csv.DictReader(table) if row.get("File")}
    except FileNotFoundError:
        return {}
    except (csv.Error, UnicodeDecodeError) as error:
        raise MerlbError(f"{folder / CAPTURED} is no CSV table in UTF-8: {error}") from None
