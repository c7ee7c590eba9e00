"""Processes: whether one still runs, and pools of workers that end with who started them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection


def is_running(process: int) -> bool:
    """Whether the process of this id on this host runs.

    One that was killed and that nobody has waited for does not, though its id exists for as long.
    """
    import psutil

    try:
        return psutil.Process(process).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def worker_pool(workers: int, prepare: Callable[[], None] | None = None) -> Iterator[ProcessPoolExecutor]:
    """``workers`` processes that leave Ctrl-C to this one and die with it; what waits is cancelled at the end.

    Spawned, not forked: a fork would take along the threads' locks of whoever calls (TensorFlow, OpenCV).

    Args:
        workers: how many.
        prepare: called once in each worker.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(prepare,)) as pool:
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def _start(prepare: Callable[[], None] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if prepare is not None:
        prepare()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
