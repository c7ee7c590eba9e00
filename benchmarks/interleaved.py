"""Several ways to do a thing, timed in turn in one run, so that what else the machine does meets all alike."""

import statistics
import time
from collections.abc import Callable


def medians(*ways: Callable[[], object], rounds: int) -> tuple[float, ...]:
    """Median seconds of one call of each, after one call of each that is not counted."""
    seconds: list[list[float]] = [[] for _ in ways]
    for number in range(rounds + 1):
        for call, taken in zip(ways, seconds, strict=True):
            started = time.perf_counter()
            call()
            if number:
                taken.append(time.perf_counter() - started)
    return tuple(statistics.median(taken) for taken in seconds)
