"""Computing waiting images with a few threads, several at a time where a model gains by that."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.inference.components import clean
from medseg.inference.predictor import Prediction, Predictor


@dataclass(eq=False)
class Job:
    """An image that waits for its mask.

    Attributes:
        model: that computes it.
        image: ``(H, W, C)`` uint8.
        answer: makes what the client gets, in the thread that computes.
        threshold: of the probability, for a binary model; default: the model's.
        tta: average over flips.
        with_probabilities: ``answer`` needs them.
        future: of what ``answer`` gives; cancelling it takes the job out of the queue.
    """

    model: Predictor
    image: NDArray[np.uint8]
    answer: Callable[[Prediction], bytes]
    threshold: float | None = None
    tta: bool = False
    with_probabilities: bool = False
    future: Future[bytes] = field(default_factory=Future)

    @property
    def kind(self) -> tuple[object, ...]:
        """Jobs of one kind can be computed in one batch."""
        return id(self.model), self.tta, self.threshold, self.with_probabilities


class Scheduler:
    """Threads that compute jobs in the order of their arrival.

    On a CPU, images are computed side by side, each by one thread: stacking them gains nothing
    there (benchmarks/serve.py). A model that is better given several at once
    (``Predictor.batch_size``) gets those that wait.

    Args:
        workers: images, or batches, computed at a time.
        threads: of each of them.
        on_batch: told the number of images of each batch.
    """

    def __init__(
        self, workers: int, *, threads: int = 1, on_batch: Callable[[int], object] = lambda _: None
    ) -> None:
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._threads_each = threads
        self._on_batch = on_batch
        self._threads = [
            threading.Thread(target=self._work, name=f"compute-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether every thread is there to compute."""
        return all(thread.is_alive() for thread in self._threads)

    def __len__(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    def submit(self, job: Job) -> None:
        """Let a job wait for its turn."""
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()

    def close(self) -> None:
        """Compute what waits, then end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        torch = sys.modules.get("torch")
        if torch is not None:
            # OpenMP counts the threads of each of its callers.
            torch.set_num_threads(self._threads_each)
        while batch := self._next_batch():
            self._on_batch(len(batch))
            try:
                _compute(batch)
            except Exception as error:
                for job in batch:
                    if not job.future.done():
                        job.future.set_exception(error)
            batch.clear()

    def _next_batch(self) -> list[Job]:
        """The oldest jobs of one kind that are still wanted; none when all is done."""
        with self._changed:
            while True:
                batch = self._take()
                if batch or (self._closing and not self._waiting):
                    return batch
                self._changed.wait()

    def _take(self) -> list[Job]:
        batch: list[Job] = []
        others: list[Job] = []
        while self._waiting and (not batch or len(batch) < batch[0].model.batch_size):
            job = self._waiting.popleft()
            if batch and job.kind != batch[0].kind:
                others.append(job)
            elif job.future.set_running_or_notify_cancel():
                batch.append(job)
        self._waiting.extendleft(reversed(others))
        return batch


def _compute(batch: list[Job]) -> None:
    """Answer every job; one whose image does not fit the model leaves the others alone."""
    prepared: list[NDArray[Any]] = []
    fitting: list[Job] = []
    for job in batch:
        try:
            prepared.append(job.model.prepare(job.image))
            fitting.append(job)
        except Exception as error:
            job.future.set_exception(error)
    if not fitting:
        return
    for job, found in zip(fitting, _predictions(fitting, prepared), strict=True):
        try:
            job.future.set_result(job.answer(found))
        except Exception as error:
            job.future.set_exception(error)


def _predictions(batch: list[Job], prepared: list[NDArray[Any]]) -> Iterator[Prediction]:
    first = batch[0]
    sizes = [(job.image.shape[0], job.image.shape[1]) for job in batch]
    if first.threshold is None:
        yield from first.model.infer(
            prepared, sizes, tta=first.tta, with_probabilities=first.with_probabilities
        )
        return
    for found in first.model.compute(prepared, sizes, tta=first.tta, with_probabilities=True):
        assert found.probabilities is not None
        reached = (found.probabilities[0] >= np.float32(first.threshold)).astype(np.uint8)
        yield Prediction(clean(reached, first.model.manifest.postprocessing), found.probabilities)
