from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.data.prompts import Box, Point, Prompts
from medseg.nn.prompts import CERTAIN, PromptTensors, box_maps, click_maps

IMAGE = torch.zeros(3, 1, 4, 6)
BOTH = Prompts(points=(Point(5, 0), Point(1, 3, False)), boxes=(Box(0, 1, 2, 4),))


def test_images_may_have_different_numbers_of_prompts() -> None:
    found = PromptTensors.of([BOTH, Prompts(), Prompts(points=(Point(2, 2),))], IMAGE)
    assert found.labels.tolist() == [[1, 0], [-1, -1], [1, -1]]
    clicks = click_maps(found.points, found.labels, (4, 6))
    assert clicks.sum((2, 3)).tolist() == [[1, 1], [0, 0], [1, 0]]
    assert clicks[0, 0, 0, 5] == clicks[0, 1, 3, 1] == clicks[2, 0, 2, 2] == 1


def test_a_box_is_filled_and_many_are_their_union() -> None:
    boxes = torch.tensor([[[0, 1, 2, 4], [1, 0, 4, 2]], [[2, 2, 2, 2], [0, 0, 0, 0]]])
    maps = box_maps(boxes, (4, 6))
    wanted = torch.zeros(2, 1, 4, 6)
    wanted[0, 0, 1:4, 0:2] = 1
    wanted[0, 0, 0:2, 1:4] = 1
    torch.testing.assert_close(maps, wanted)


def test_a_pixel_may_be_clicked_both_ways() -> None:
    maps = click_maps(torch.tensor([[[1, 2], [1, 2]]]), torch.tensor([[1, 0]]), (4, 6))
    assert maps[0, :, 2, 1].tolist() == [1, 1]


def test_without_prompts_all_maps_are_empty() -> None:
    for nothing in (PromptTensors.none(IMAGE), PromptTensors.of([Prompts()] * 3, IMAGE)):
        assert not click_maps(nothing.points, nothing.labels, (4, 6)).any()
        assert not box_maps(nothing.boxes, (4, 6)).any()
        assert nothing.scribbles.shape == (3, 2, 4, 6)
        assert not nothing.scribbles.any()
        assert nothing.mask.shape == (3, 1, 4, 6)
        assert not nothing.mask.any()


def test_an_earlier_mask_becomes_logits() -> None:
    mask = np.array([[0, 1], [0.25, 0.5]], np.float32)
    found = PromptTensors.of([Prompts(mask=mask)], torch.zeros(1, 1, 2, 2)).mask[0, 0]
    torch.testing.assert_close(
        found.sigmoid(), torch.tensor([[CERTAIN, 1 - CERTAIN], [0.25, 0.5]]), rtol=0, atol=1e-6
    )


def test_logits_of_the_last_round_go_before_the_records_masks() -> None:
    previous = torch.randn(1, 1, 2, 2)
    with_mask = Prompts(mask=np.ones((2, 2), np.float32))
    assert PromptTensors.of([with_mask], torch.zeros(1, 1, 2, 2), previous).mask is previous


@pytest.mark.parametrize("place", [0, 1])
def test_scribbles_are_passed_on_as_they_are(place: int) -> None:
    drawn = np.random.default_rng(0).random((2, 4, 6), dtype=np.float32)
    records = [Prompts()] * 3
    records[place] = Prompts(scribbles=drawn)
    found = PromptTensors.of(records, IMAGE).scribbles
    np.testing.assert_array_equal(found[place], drawn)
    assert np.count_nonzero(found) == drawn.size
