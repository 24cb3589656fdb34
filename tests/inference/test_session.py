from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from data.builders import noise
from medseg.data.prompts import Box, Point, Prompts
from medseg.errors import DataError, ModelError
from medseg.inference.promptable import PromptableModel
from medseg.inference.session import Session

from .builders import promptable

IMAGE = noise(3, (30, 44), channels=1)


@pytest.fixture(scope="module")
def model() -> PromptableModel:
    return promptable()


def test_before_the_first_interaction_nothing_is_segmented(model: PromptableModel) -> None:
    session = model.session(IMAGE)
    assert session.interactions == 0
    assert session.mask.shape == (30, 44)
    assert not session.mask.any()
    assert not session.probabilities.any()


def test_the_first_answer_is_that_of_a_single_prediction(model: PromptableModel) -> None:
    session = model.session(IMAGE)
    session.click(20, 10)
    prompts = Prompts(points=(Point(20, 10),))
    np.testing.assert_array_equal(session.mask, model.predict(IMAGE, prompts=prompts))
    assert 0 < session.classes.mean() < 1
    np.testing.assert_array_equal(session.mask, session.classes * 255)


def test_an_answer_goes_on_from_the_last_one(model: PromptableModel) -> None:
    session = model.session(IMAGE)
    session.click(20, 10)
    session.click(5, 25, positive=False)
    both = Prompts(points=(Point(20, 10), Point(5, 25, False)))
    once = model.pointed(both)._of(IMAGE, with_probabilities=True).probabilities
    assert once is not None
    assert session.prompts.points == both.points
    assert not np.array_equal(session.probabilities, once[0])


STEPS: tuple[Callable[[Session], None], ...] = (
    lambda session: session.click(20, 10),
    lambda session: session.box(3, 4, 30, 20),
    lambda session: session.scribble(np.eye(30, 44), positive=False),
    lambda session: session.click(40, 29, positive=False),
)


def test_undo_brings_every_earlier_answer_back_to_the_bit(model: PromptableModel) -> None:
    session = model.session(IMAGE)
    seen = [(session.probabilities, session.prompts)]
    for step in STEPS:
        step(session)
        seen.append((session.probabilities, session.prompts))
    for before, prompts in reversed(seen[:-1]):
        assert session.undo()
        np.testing.assert_array_equal(session.probabilities, before)
        assert session.prompts is prompts
    assert not session.undo()


def test_redo_repeats_what_was_taken_back_until_something_else_is_done(
    model: PromptableModel,
) -> None:
    session = model.session(IMAGE)
    for step in STEPS:
        step(session)
    final = session.probabilities
    session.undo()
    session.undo()
    assert session.redo()
    assert session.redo()
    np.testing.assert_array_equal(session.probabilities, final)
    session.undo()
    session.click(1, 1)
    assert not session.redo()


def test_after_a_reset_it_is_as_if_nothing_had_happened(model: PromptableModel) -> None:
    session, fresh = model.session(IMAGE), model.session(IMAGE)
    for step in STEPS:
        step(session)
    session.reset()
    assert session.interactions == 0
    for each in (session, fresh):
        each.click(7, 7)
    np.testing.assert_array_equal(session.probabilities, fresh.probabilities)


def test_a_refused_interaction_changes_nothing(model: PromptableModel) -> None:
    session = model.session(IMAGE)
    session.click(20, 10)
    before = session.probabilities
    for refused in (
        lambda: session.click(44, 0),
        lambda: session.box(0, 0, 45, 3),
        lambda: session.scribble(np.zeros((44, 30))),
        lambda: session.scribble(np.full((30, 44), 2.0)),
    ):
        with pytest.raises(DataError):
            refused()
    with pytest.raises(ModelError, match="does not take text"):
        session.add(Prompts(text="liver"))
    with pytest.raises(ModelError, match="nothing is pointed at"):
        session.add(Prompts())
    assert session.interactions == 1
    np.testing.assert_array_equal(session.probabilities, before)


def test_an_earlier_mask_is_where_the_first_answer_starts_from(model: PromptableModel) -> None:
    plain, started = model.session(IMAGE), model.session(IMAGE)
    plain.click(20, 10)
    mask = np.zeros((30, 44), np.float32)
    mask[5:15, 5:25] = 1
    started.add(Prompts(points=(Point(20, 10),), mask=mask))
    assert not np.array_equal(plain.probabilities, started.probabilities)


def test_prompts_are_in_pixels_of_the_image_whatever_its_size(model: PromptableModel) -> None:
    """An image enlarged by a whole number, pointed at in the same places, has the same logits."""
    large = np.kron(IMAGE[:, :, None] if IMAGE.ndim == 3 else IMAGE, np.ones((3, 3), np.uint8))
    size = (model.manifest.preprocessing.image_size,) * 2
    small = model.prepare(IMAGE[:, :, None])
    asked: list[torch.Tensor] = []
    for image, scale in ((IMAGE, 1), (large, 3)):
        session = model.session(image)
        session._prepared = small
        session.click(20 * scale + scale // 2, 10 * scale + scale // 2)
        session.box(3 * scale, 4 * scale, 30 * scale, 20 * scale)
        logits = session._past[-1][1]
        assert logits is not None
        assert logits.shape[-2:] == size
        asked.append(logits)
    torch.testing.assert_close(asked[0], asked[1], rtol=0, atol=0)


def test_a_box_and_a_point_may_be_one_interaction(model: PromptableModel) -> None:
    session = model.session(IMAGE)
    session.add(Prompts(points=(Point(9, 9),), boxes=(Box(3, 4, 30, 20),)))
    assert session.interactions == 1
    assert session.prompts.kinds == ("point", "box")
