"""Several ways to do a thing, timed in turn in one run, so that what else the machine does meets all alike."""

import statistics
import time
from collections.abc import Callable
from typing import Final

_TURN_SECONDS: Final = 0.5


def medians(*ways: Callable[[], object], rounds: int) -> tuple[float, ...]:
    """Median over rounds of the seconds a call of each takes, called again and again in its turn.

    A turn begins with a call that is not counted, and lasts half a second or one call: a way is measured as it runs in
    use, where a training step follows a step of the same network, not on the caches that another way left.
    """
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for call, taken in zip(ways, seconds, strict=True):
            call()
            taken.append(_a_call(call))
    return tuple(statistics.median(taken) for taken in seconds)


def _a_call(call: Callable[[], object]) -> float:
    started, calls = time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < _TURN_SECONDS or not calls:
        call()
        calls += 1
    return passed / calls
