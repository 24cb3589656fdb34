from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.methods.mixing import outside_box, paste

CPU = torch.device("cpu")


@given(size=st.lists(st.integers(4, 24), min_size=2, max_size=3), seed=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_the_box_has_two_thirds_of_each_side(size: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    inside = outside_box(size, 2 / 3, CPU) == 0
    sides = [int(length * 2 / 3) for length in size]
    volume = 1
    for axis, side in enumerate(sides):
        others = [other for other in range(len(size)) if other != axis]
        assert int(inside.amax(others).sum()) == side
        volume *= side
    assert int(inside.sum()) == volume


def test_the_box_is_everywhere_but_at_the_last_place() -> None:
    torch.manual_seed(0)
    corners = {
        int((outside_box((12, 12), 2 / 3, CPU) == 0).any(1).int().argmax()) for _ in range(99)
    }
    assert corners == {0, 1, 2, 3}


def test_a_mix_is_the_ground_outside_the_box_and_the_piece_inside() -> None:
    ground, piece = torch.randn(2, 3, 9, 8), torch.randn(2, 3, 9, 8)
    outside = outside_box((9, 8), 2 / 3, CPU)
    mixed = paste(ground, piece, outside)
    assert torch.equal(mixed * outside, ground * outside)
    assert torch.equal(mixed * (1 - outside), piece * (1 - outside))
    masks = [torch.randint(0, 4, (2, 9, 8), dtype=torch.uint8) for _ in range(2)]
    labels = paste(masks[0], masks[1], outside)
    assert torch.equal(labels[:, outside == 1], masks[0][:, outside == 1])
    assert torch.equal(labels[:, outside == 0], masks[1][:, outside == 0])
