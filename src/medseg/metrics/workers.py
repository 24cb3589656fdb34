"""Worker processes for work that threads cannot share, because Python runs one of them at a time.

Workers are started with ``python -c``, not with :mod:`multiprocessing`, which imports the user's
script again in each worker: a script without ``if __name__ == "__main__"`` would start itself.
"""

from __future__ import annotations

import math
import os
import pickle
import queue
import signal
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from types import TracebackType
from typing import Protocol, TypeVar

from medseg.cores import cores
from medseg.errors import MedsegError

CHUNK = 16
"""Most items that a worker gets at once: few enough that memory stays flat and progress moves."""

WORTH_PROCESSES = 1000
"""Pictures from which on workers, which take about a second to start, are faster than threads."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """Processes that map functions over items, in order; they live inside a ``with`` block.

    Functions, items and results are pickled. An exception ends the map and is raised here as it
    was there. Ctrl-C here ends the workers at once; they also end when this process is gone.

    Args:
        count: how many.

    Raises:
        MedsegError: so many cannot be started.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> Workers:
        with ExitStack() as stack:
            self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
            try:
                self._children = [stack.enter_context(_start()) for _ in range(self.count)]
            except OSError as error:
                raise MedsegError(
                    f"--workers {self.count}",
                    f"so many processes cannot be started ({error.strerror})",
                    "Try fewer",
                ) from error
            for child in self._children:
                self._idle.put(child)
            self._threads = ThreadPoolExecutor(self.count)
            stack.callback(self._stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item], chunk: int = CHUNK
    ) -> Iterator[Result]:
        """``function`` of each item, in order, with at most two chunks a worker under way.

        Args:
            function: picklable; a module's function, a bound method or a partial.
            items: picklable.
            chunk: items that a worker gets at once.

        Raises:
            MedsegError: a worker died.
        """
        remaining = iter(items)
        under_way: deque[Future[list[Result]]] = deque()
        try:
            while some := list(islice(remaining, chunk)):
                under_way.append(self._threads.submit(self._compute, function, some))
                if len(under_way) >= 2 * self.count:
                    yield from under_way.popleft().result()
            while under_way:
                yield from under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()

    def _compute(self, function: Callable[[Item], Result], some: list[Item]) -> list[Result]:
        """Have an idle worker do a chunk."""
        task = pickle.dumps((function, some), pickle.HIGHEST_PROTOCOL)
        child = self._idle.get()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            # As bytes, so that what cannot be unpickled there is still read to its end.
            pickle.dump(task, child.stdin, pickle.HIGHEST_PROTOCOL)
            child.stdin.flush()
            done, answer = pickle.load(child.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            code = child.wait()
            raise MedsegError(
                "--workers",
                f"a worker process ended with exit code {code}, perhaps because memory ran out",
                "Try fewer, or --workers 1",
            ) from error
        finally:
            self._idle.put(child)
        if not done:
            raise answer
        results: list[Result] = answer
        return results

    def _stop(self) -> None:
        for child in self._children:
            child.kill()
        # Threads that were waiting for a worker see its end.
        self._threads.shutdown(cancel_futures=True)
        for child in self._children:
            # What a worker will not read any more cannot be flushed to it.
            with suppress(BrokenPipeError):
                assert child.stdin is not None
                child.stdin.close()


def in_order(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Iterator[Result]:
    """Map over ``items`` in threads, yielding in order with at most ``2 * workers`` under way."""
    workers = workers or min(4, cores())
    with ThreadPoolExecutor(workers) as pool:
        under_way: deque[Future[Result]] = deque()
        try:
            for item in items:
                under_way.append(pool.submit(function, item))
                if len(under_way) >= 2 * workers:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


class Map(Protocol):
    """Like the built-in ``map``: the results in the order of the items."""

    def __call__(
        self, function: Callable[[Item], Result], items: Collection[Item], /
    ) -> Iterator[Result]: ...


@contextmanager
def spread(count: int | None, pictures: int) -> Iterator[Map]:
    """A way to map functions over cases.

    Args:
        count: processes; with 1 all is done in this one. None: one for each core where there are
            enough pictures to be worth their start, else threads.
        pictures: how many there are to read, at least 1; there are no more processes than these.
    """
    if count == 1:
        yield map
    elif count is None and (cores() == 1 or pictures < WORTH_PROCESSES):
        yield in_order
    else:
        with Workers(min(count or cores(), pictures)) as workers:
            yield lambda function, items: workers.map(
                function, items, max(1, min(CHUNK, math.ceil(len(items) / (4 * workers.count))))
            )


def serve() -> None:
    """Answer on stdout what is asked on stdin until that ends: a worker's whole life."""
    # The parent decides what ctrl-C means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    # What a library prints must not lie between answers.
    os.dup2(2, 1)
    with suppress(EOFError, BrokenPipeError):
        while True:
            answers.write(_answer(pickle.load(asked)))
            answers.flush()


def _answer(task: bytes) -> bytes:
    try:
        function, some = pickle.loads(task)
        return pickle.dumps((True, [function(item) for item in some]), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        try:
            answer = pickle.dumps((False, error), pickle.HIGHEST_PROTOCOL)
            pickle.loads(answer)
            return answer
        except Exception:
            # Not every exception survives the way.
            return pickle.dumps((False, RuntimeError(traceback.format_exc())))


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", "from medseg.metrics.workers import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            # There are as many of them as cores; none needs several.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        },
        # Ctrl-C reaches this process, which ends them.
        start_new_session=True,
    )
