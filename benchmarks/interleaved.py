"""Two ways to do a thing, timed in turn in one run, so that what else the machine does meets both alike."""

import statistics
import time
from collections.abc import Callable


def medians(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds of one call of each, after one call of each that is not counted."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for call, taken in zip((first, second), seconds, strict=True):
            started = time.perf_counter()
            call()
            if number:
                taken.append(time.perf_counter() - started)
    return statistics.median(seconds[0]), statistics.median(seconds[1])
