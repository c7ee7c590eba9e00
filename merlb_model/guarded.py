"""Work on input that nobody vouches for: a job that crashes, hangs or swells costs itself alone."""

import json
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any, Final, Generic, Literal, TypeVar

from merlb_model.errors import MerlbError

Job = TypeVar("Job")
Result = TypeVar("Result")

_ATTEMPTS: Final = 2
"""How often a job that takes its worker down is tried: the first time may have been the machine's fault."""
_BOOT: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from merlb_model.guarded import work; work(int(sys.argv[2]))"
)
_ENVIRONMENT: Final = {
    # There is a worker for each core.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # Each job needs what the last one freed: glibc keeps it rather than give pages back and clear new ones.
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
}


@dataclass(frozen=True)
class Limits:
    """What a job may take: seconds of wall time, and bytes of memory that is its worker's own."""

    seconds: float
    memory_bytes: int


@dataclass(frozen=True)
class Lost:
    """A job that took its worker down, and how."""

    how: Literal["crash", "timeout", "out_of_memory"]
    detail: str


def guarded_map(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int, limits: Limits
) -> Generator[tuple[Job, Result | Lost], None, None]:
    """``function`` of each job, in ``workers`` processes; yields a job and what came of it, in the order of ending.

    A crash by signal or a hang is tried once more; then, or out of memory, the job is lost and the others go on.
    Workers are started afresh, not forked: a fork would take along the threads' locks of whoever calls. They import
    nothing but ``function``'s module, leave Ctrl-C to this process and die with it. Close the iterator to end early.

    Args:
        function: of a module's top level; its module decides how soon a worker is ready.
        jobs: taken one by one, as workers become free; they and the results must pickle.
        workers: how many.
        limits: for each job.

    Raises:
        MerlbError: the function raised one, or a worker does not start. What else the function raises is raised too.
    """
    crew = _Crew(function, iter(jobs), limits)
    try:
        crew.hire(workers)
        while ended := crew.wait():
            yield from ended
    finally:
        crew.dismiss()


@contextmanager
def guarded_pool(workers: int, limits: Limits) -> Iterator[Callable[..., list[Any]]]:
    """A map as the built-in one, in workers as those of `guarded_map` that stay from call to call.

    It takes functions of modules' top level, answers in the order of the jobs, and has None for a job that is lost.

    Args:
        workers: how many at most; they are started when they are needed.
        limits: for each call of a function.
    """
    crew: _Crew[tuple[int, Callable[..., Any], tuple[Any, ...]], Any] = _Crew(_call, iter(()), limits)

    def mapped(function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        calls = list(zip(*arguments, strict=True))
        answers: list[Any] = [None] * len(calls)
        crew.hire(min(workers, len(calls)) - crew.size)
        crew.jobs = ((index, function, call) for index, call in enumerate(calls))
        while ended := crew.wait():
            for (index, *_), answer in ended:
                answers[index] = None if isinstance(answer, Lost) else answer
        return answers

    try:
        yield mapped
    finally:
        crew.dismiss()


def _call(job: tuple[int, Callable[..., Any], tuple[Any, ...]]) -> Any:
    _, function, arguments = job
    return function(*arguments)


class _Crew(Generic[Job, Result]):
    def __init__(self, function: Callable[[Job], Result], jobs: Iterator[Job], limits: Limits) -> None:
        self._function = function
        self.jobs = jobs
        self._again: list[tuple[Job, int]] = []
        self._limits = limits
        self._workers: list[_Worker] = []

    @property
    def size(self) -> int:
        return len(self._workers)

    def hire(self, count: int) -> None:
        for _ in range(count):
            self._workers.append(_Worker(self._function, self._limits))

    def dismiss(self) -> None:
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def wait(self) -> list[tuple[Job, Result | Lost]]:
        """The jobs that ended next; none once all have."""
        while True:
            self._hand_out()
            if not any(worker.job for worker in self._workers):
                return []
            now = time.monotonic()
            soonest = min(worker.deadline for worker in self._workers)
            patience = None if soonest == math.inf else max(0.0, soonest - now)
            heard = connection.wait([worker.pipe for worker in self._workers], patience)
            ended = [self._hear(worker, worker.pipe in heard) for worker in list(self._workers)]
            if found := [one for one in ended if one is not None]:
                return found

    def _hand_out(self) -> None:
        for worker in list(self._workers):
            if worker.job is None:
                worker.job = self._next()
                if worker.job is None:
                    continue
            if worker.ready and not worker.busy:
                worker.give()

    def _next(self) -> tuple[Job, int] | None:
        if self._again:
            return self._again.pop()
        return next(((job, 1) for job in self.jobs), None)

    def _hear(self, worker: "_Worker", spoke: bool) -> tuple[Job, Result | Lost] | None:
        """What came of the worker's job, if it ended."""
        if not spoke:
            if not worker.busy or time.monotonic() < worker.deadline:
                return None
            return self._lose(worker, Lost("timeout", f"took longer than {self._limits.seconds:g} s"))
        try:
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            return self._lose(worker, Lost("crash", worker.how_it_ended()))
        if kind == "ready":
            worker.ready = True
            return None
        if kind == "raised":
            raise content
        if kind == "out_of_memory":
            megabytes = self._limits.memory_bytes // 1_000_000
            return self._lose(worker, Lost("out_of_memory", f"needed more than {megabytes} MB"), last=True)
        job, _ = worker.take_back()
        return job, content

    def _lose(self, worker: "_Worker", lost: Lost, last: bool = False) -> tuple[Job, Result | Lost] | None:
        """Replace the worker; try its job again, or give it up."""
        self._workers.remove(worker)
        worker.end()
        if not worker.ready:
            raise MerlbError(f"a worker process does not start ({lost.detail}): run `merlb doctor`")
        self.hire(1)
        if worker.job is None:  # it died idle
            return None
        job, attempt = worker.job
        if attempt < _ATTEMPTS and not last:
            self._again.append((job, attempt + 1))
            return None
        return job, lost


class _Worker:
    """A process, its pipe, and the job it was given. Its standard input tells it when this process is gone."""

    def __init__(self, function: Callable[[Any], Any], limits: Limits) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        self.job: tuple[Any, int] | None = None
        self.ready = False
        self.busy = False
        self.deadline = math.inf
        self._seconds = limits.seconds
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, json.dumps(sys.path), str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C reaches this process alone, which ends its workers
                env={**os.environ, **_ENVIRONMENT},
            )
        try:
            self.pipe.send((function, limits.memory_bytes))
        except OSError:
            return  # died at once: reading the pipe will tell

    def give(self) -> None:
        assert self.job is not None
        self.busy = True
        self.deadline = time.monotonic() + self._seconds
        try:
            self.pipe.send(self.job[0])
        except OSError:
            return  # it died: reading the pipe will tell

    def take_back(self) -> tuple[Any, int]:
        assert self.job is not None
        job, self.job, self.busy, self.deadline = self.job, None, False, math.inf
        return job

    def how_it_ended(self) -> str:
        self.pipe.close()
        code = self._process.wait()
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def end(self) -> None:
        self.pipe.close()
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


# --- In the worker ----------------------------------------------------------------------------------------------------


def work(descriptor: int) -> None:
    """Do the jobs that come by the pipe ``descriptor``, until it closes."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with connection.Connection(descriptor) as pipe:
        try:
            function, memory_bytes = pipe.recv()
            _limit(memory_bytes)
            pipe.send(("ready", None))
            while True:
                pipe.send(_answer(function, pipe.recv()))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _die_with_parent() -> None:
    os.read(0, 1)  # nothing is ever written: it returns when the other end is gone
    os._exit(1)


def _limit(memory_bytes: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Of the process's own, not of all that it maps: files it maps and libraries' reserved addresses are no memory.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))


def _answer(function: Callable[[Any], Any], job: Any) -> tuple[str, Any]:
    try:
        return "done", function(job)
    except MemoryError:
        return "out_of_memory", None
    except Exception as error:  # whatever it is belongs to who called
        return "raised", _as_sent(error)


def _as_sent(error: Exception) -> Exception:
    """The error with its trace as a note, or what can be told of one that does not pickle."""
    trace = traceback.format_exc()
    try:
        sent = pickle.loads(pickle.dumps(error))  # noqa: S301  our own
    except Exception:
        sent = RuntimeError(f"{type(error).__name__}: {error}")
    sent.add_note(trace)
    return sent if isinstance(sent, Exception) else RuntimeError(repr(error))
