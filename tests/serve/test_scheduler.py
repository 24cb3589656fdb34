from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from data.builders import noise
from inference.builders import ORGANS, manifest_and_weights
from medseg.errors import DataError
from medseg.inference.bundle import Postprocessing
from medseg.inference.predictor import Prediction, Predictor
from medseg.serve.scheduler import Job, Scheduler


class Red(Predictor):
    """Takes the red channel for the probability; waits for ``gate`` before it computes."""

    engine: ClassVar[Literal["torch", "onnx"]] = "onnx"

    def __init__(self, batch_size: int = 1, **changes: Any) -> None:
        super().__init__(manifest_and_weights()[0].model_copy(update=changes))
        self.batch = batch_size
        self.calls: list[int] = []
        self.gate = threading.Event()
        self.begun = threading.Event()

    @property
    def batch_size(self) -> int:
        return self.batch

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if image.shape[2] != 3:
            raise DataError("image", "is not red", "Paint it")
        return image

    def compute(
        self,
        prepared: Sequence[NDArray[Any]],
        sizes: Sequence[tuple[int, int]],
        *,
        tta: bool = False,
        with_probabilities: bool = False,
    ) -> Iterator[Prediction]:
        self.begun.set()
        assert self.gate.wait(10)
        self.calls.append(len(prepared))
        for image in prepared:
            share = (image[None, ..., 0] / np.float32(255)).astype(np.float32)
            yield Prediction(self.decide(share), share)


def classes(found: Prediction) -> bytes:
    return found.classes.tobytes()


def job(model: Predictor, seed: int = 0, **options: Any) -> Job:
    return Job(model, noise(seed, (6, 7)), classes, **options)


def run(scheduler: Scheduler, *jobs: Job) -> list[bytes]:
    for each in jobs:
        scheduler.submit(each)
    return [each.future.result(10) for each in jobs]


@pytest.fixture
def one() -> Iterator[Scheduler]:
    scheduler = Scheduler(1)
    yield scheduler
    scheduler.close()
    assert not scheduler.alive


def held(scheduler: Scheduler, model: Red) -> Job:
    """A job that is being computed until the model's gate opens."""
    first = job(model, 99)
    scheduler.submit(first)
    assert model.begun.wait(10)
    return first


def test_jobs_that_wait_are_computed_together_as_far_as_the_model_likes(one: Scheduler) -> None:
    model = Red(batch_size=4)
    first = held(one, model)
    jobs = [job(model, seed) for seed in range(6)]
    for each in jobs:
        one.submit(each)
    assert len(one) == 6
    model.gate.set()
    masks = [each.future.result(10) for each in (first, *jobs)]
    assert model.calls == [1, 4, 2]
    alone = Red()
    alone.gate.set()
    assert masks == run(one, job(alone, 99), *(job(alone, seed) for seed in range(6)))


def test_other_options_or_models_are_another_batch_and_keep_their_turn(one: Scheduler) -> None:
    model, other = Red(batch_size=4), Red(batch_size=4)
    other.gate.set()
    first = held(one, model)
    order: list[str] = []

    def noting(name: str) -> Any:
        return lambda _: order.append(name) or b""

    jobs = [
        Job(each, noise(), noting(name), tta=tta)
        for each, name, tta in (
            (model, "a", False), (other, "b", False), (model, "c", False), (model, "d", True),
        )
    ]  # fmt: skip
    for each in jobs:
        one.submit(each)
    model.gate.set()
    for each in (first, *jobs):
        each.future.result(10)
    assert order == ["a", "c", "b", "d"]


def test_a_job_that_is_cancelled_while_it_waits_is_not_computed(one: Scheduler) -> None:
    model = Red()
    first = held(one, model)
    unwanted, wanted = job(model, 1), job(model, 2)
    one.submit(unwanted)
    one.submit(wanted)
    assert unwanted.future.cancel()
    model.gate.set()
    first.future.result(10)
    wanted.future.result(10)
    assert model.calls == [1, 1]


def test_an_image_that_does_not_fit_leaves_the_others_of_its_batch_alone(one: Scheduler) -> None:
    model = Red(batch_size=3)
    first = held(one, model)
    grey = Job(model, noise(channels=1)[..., None], classes)
    good = job(model, 1)
    one.submit(grey)
    one.submit(good)
    model.gate.set()
    first.future.result(10)
    with pytest.raises(DataError, match="not red"):
        grey.future.result(10)
    assert len(good.future.result(10)) == 42


def test_an_answer_that_fails_does_not_end_the_thread(one: Scheduler) -> None:
    model = Red()
    model.gate.set()

    def fail(_: Prediction) -> bytes:
        raise MemoryError

    failing = Job(model, noise(), fail)
    one.submit(failing)
    with pytest.raises(MemoryError):
        failing.future.result(10)
    assert run(one, job(model)) != [b""]
    assert one.alive


def test_a_threshold_is_applied_before_small_components_are_dropped(one: Scheduler) -> None:
    model = Red(postprocessing=Postprocessing(min_pixels=2))
    model.gate.set()
    image = np.zeros((3, 5, 3), np.uint8)
    image[0, 0], image[2, 3:] = 100, 60
    answers = []
    for threshold in (0.2, 0.3):
        waiting = Job(model, image, classes, threshold=threshold)
        (found,) = run(one, waiting)
        answers.append(np.frombuffer(found, np.uint8).reshape(3, 5).sum())
    assert answers == [2, 0]


def test_closing_computes_what_waits() -> None:
    scheduler = Scheduler(2)
    model = Red()
    jobs = [job(model, seed) for seed in range(5)]
    for each in jobs:
        scheduler.submit(each)
    model.gate.set()
    scheduler.close()
    assert all(each.future.done() for each in jobs)


def test_batches_are_told() -> None:
    told: list[int] = []
    scheduler = Scheduler(1, on_batch=told.append)
    model = Red()
    model.gate.set()
    run(scheduler, job(model))
    scheduler.close()
    assert told == [1]


def test_models_of_more_classes_have_the_same_way_through(one: Scheduler) -> None:
    manifest = manifest_and_weights(ORGANS)[0]
    model = Red(labels=manifest.labels, num_classes=3)
    model.gate.set()
    (found,) = run(one, job(model))
    assert len(found) == 42
