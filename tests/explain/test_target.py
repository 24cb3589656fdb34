from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.case import Label, LabelMap
from medseg.errors import MedsegError
from medseg.explain.target import (
    NothingToExplainError,
    Target,
    choose_region,
    class_index,
    on_grid,
    parse_numbers,
)

CELLS = LabelMap((Label("background", 0), Label("cell", 1), Label("nucleus", 2)))
BINARY = LabelMap((Label("background", 0), Label("nucleus", 255)))
CLASSES = np.array(
    [
        [1, 1, 0, 2],
        [1, 0, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 0],
    ],
    np.uint8,
)


def test_the_class_with_most_pixels_is_explained_wherever_it_is_predicted() -> None:
    index, region = choose_region(CLASSES, CELLS)
    assert index == 1
    assert np.array_equal(region, CLASSES == 1)


def test_a_named_class_is_explained_instead() -> None:
    index, region = choose_region(CLASSES, CELLS, index=2)
    assert index == 2
    assert np.argwhere(region).tolist() == [[0, 3]]


def test_a_point_chooses_the_structure_it_lies_in() -> None:
    index, region = choose_region(CLASSES, CELLS, at=(1, 0))
    assert index == 1
    assert np.argwhere(region).tolist() == [[0, 0], [0, 1], [1, 0]]


def test_all_of_a_box_is_explained_for_the_class_found_most_in_it() -> None:
    index, region = choose_region(CLASSES, CELLS, box=(2, 0, 2, 2))
    assert index == 2
    assert np.argwhere(region).tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]


def test_a_box_of_background_explains_why_a_binary_model_saw_nothing() -> None:
    index, region = choose_region(np.zeros((4, 4), np.uint8), BINARY, box=(0, 0, 1, 1))
    assert (index, region.sum()) == (1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box": (0, 2, 2, 2)}, "nothing but background.*--label"),
        ({"box": (3, 3, 2, 1)}, "beyond the image of 4 x 4"),
        ({"at": (4, 0)}, "outside the image"),
        ({"at": (3, 3)}, "background is predicted there"),
        ({"at": (3, 0), "index": 1}, "'nucleus' is predicted there, not 'cell'"),
    ],
)
def test_a_place_with_nothing_to_explain_is_said_so(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(NothingToExplainError, match=message):
        choose_region(CLASSES, CELLS, **options)  # type: ignore[arg-type]


def test_an_empty_prediction_has_nothing_to_explain_but_its_background() -> None:
    empty = np.zeros((4, 4), np.uint8)
    for index in (None, 1):
        with pytest.raises(NothingToExplainError):
            choose_region(empty, BINARY, index=index)
    assert choose_region(empty, BINARY, index=0)[1].all()


def test_the_target_sums_logits_and_averages_probabilities_over_the_region() -> None:
    logits = torch.tensor([[[[2.0, -1.0]], [[0.0, 0.0]], [[5.0, 5.0]]]])
    target = Target(0, torch.tensor([[1.0, 0.5]]))
    assert target.logit(logits).tolist() == [1.5]
    each = torch.softmax(logits, 1)[0, 0, 0]
    assert target.probability(logits)[0] == pytest.approx(float((each[0] + each[1] / 2) / 1.5))


def test_probabilities_of_a_binary_foreground_and_background_sum_to_one() -> None:
    logits = torch.randn(2, 1, 3, 3)
    front, back = (Target(i, torch.ones(3, 3)) for i in (1, 0))
    assert torch.allclose(front.probability(logits) + back.probability(logits), torch.ones(2))
    assert torch.equal(front.logit(logits), -back.logit(logits))


@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 20), st.integers(0, 39),
    st.integers(0, 39),
)  # fmt: skip
def test_no_region_is_lost_on_the_networks_grid(
    height: int, width: int, size: int, row: int, column: int
) -> None:
    region = np.zeros((height, width), bool)
    region[row % height, column % width] = True
    assert on_grid(region, (size, size)).sum() > 0
    assert torch.equal(
        on_grid(np.ones((height, width), bool), (size, size)), torch.ones(size, size)
    )


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=2))
def test_points_are_read_as_they_are_written(numbers: list[int]) -> None:
    assert parse_numbers("--at", ",".join(map(str, numbers)), 2) == tuple(numbers)


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "1,-2", "1,2.5", "a,b", "1;2"])
def test_a_malformed_point_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(MedsegError, match="--at 120,80"):
        parse_numbers("--at", text, 2)


def test_a_box_without_pixels_is_refused() -> None:
    with pytest.raises(MedsegError, match="--region 1,2,0,4"):
        parse_numbers("--region", "1,2,0,4", 4)


def test_an_unknown_class_is_answered_with_the_nearest() -> None:
    assert class_index("nucleus", CELLS) == 2
    with pytest.raises(MedsegError, match="Did you mean 'nucleus'"):
        class_index("nuclei", CELLS)
