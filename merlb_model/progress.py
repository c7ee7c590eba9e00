"""Progress with time left: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
_SECONDS_BETWEEN_LINES = 15.0


def track(items: Iterable[T], label: str, total: int | None = None, unit: str = "clip") -> Iterator[T]:
    """Yield ``items`` and show on stderr how many are done and how long the rest takes.

    Args:
        items: what is worked on.
        label: what is being done, e.g. ``"decode"``.
        total: how many there are, where ``items`` has no length.
        unit: what one item is.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from tqdm(items, desc=f"  {label}", total=total, unit=unit, dynamic_ncols=True)
        return
    started = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            left = f", about {(now - started) / done * (total - done):.0f} s left" if total else ""
            sys.stderr.write(f"  {label}: {done}/{total or '?'} {unit}s{left}\n")
            sys.stderr.flush()
