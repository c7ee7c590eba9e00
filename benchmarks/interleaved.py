"""Several ways to do a thing, timed in turn in one run, so that what else the machine does meets all alike."""

import statistics
import time
from collections.abc import Callable


def medians(*ways: Callable[[], object], rounds: int) -> tuple[float, ...]:
    """Median seconds of one call of each; each is called once before, so that caches are as its kind leaves them.

    So it is in use: a training step follows a step of the same network, not one of another.
    """
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for call, taken in zip(ways, seconds, strict=True):
            call()
            started = time.perf_counter()
            call()
            taken.append(time.perf_counter() - started)
    return tuple(statistics.median(taken) for taken in seconds)
