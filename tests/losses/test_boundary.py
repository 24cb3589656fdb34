from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import BoundaryLoss

from losses.samples import sample
from medseg.data.case import IGNORE
from medseg.losses.boundary import boundary_loss, signed_distance
from medseg.losses.region import probabilities


@given(seed=st.integers(0, 1000), classes=st.sampled_from([1, 3]), empty=st.booleans())
@settings(max_examples=15, deadline=None)
def test_it_is_monais(seed: int, classes: int, empty: bool) -> None:
    logits, mask = sample(seed, classes, empty=empty)
    theirs = BoundaryLoss(
        include_background=classes == 1,
        to_onehot_y=classes > 1,
        sigmoid=classes == 1,
        softmax=classes > 1,
    )
    found = boundary_loss(logits, mask)
    assert found.item() == pytest.approx(theirs(logits, mask.unsqueeze(1)).item(), abs=1e-5)


@given(seed=st.integers(0, 1000), density=st.floats(0.05, 0.95))
@settings(max_examples=20, deadline=None)
def test_distances_are_those_to_the_nearest_pixel_of_the_other_side(
    seed: int, density: float
) -> None:
    inside = np.random.default_rng(seed).random((6, 8)) < density
    inside[0, 0], inside[-1, -1] = True, False
    found = signed_distance(inside)
    where = np.argwhere(np.ones_like(inside)).reshape(6, 8, 2)
    for pixel in np.ndindex(6, 8):
        other = where[inside != inside[pixel]]
        nearest = np.sqrt(((other - np.array(pixel)) ** 2).sum(1)).min()
        expected = 1 - nearest if inside[pixel] else nearest
        assert found[pixel] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("value", [False, True])
def test_where_there_is_no_outline_there_is_no_distance(value: bool) -> None:
    assert not signed_distance(np.full((4, 5), value)).any()


def test_the_truth_costs_less_than_the_truth_grown_shrunk_or_moved() -> None:
    rows, columns = np.ogrid[:24, :24]

    def disk(centre: int, radius: float) -> torch.Tensor:
        inside = (rows - 12) ** 2 + (columns - centre) ** 2 < radius**2
        return torch.from_numpy(inside[None].astype(np.uint8))

    truth = disk(12, 6)

    def cost(guess: torch.Tensor) -> float:
        return boundary_loss((40.0 * guess - 20).unsqueeze(1), truth).item()

    assert cost(truth) < min(cost(disk(12, 8)), cost(disk(12, 4)), cost(disk(14, 6)))


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_unknown_pixels_are_outside_for_distances_and_left_out_of_the_mean(seed: int) -> None:
    logits, mask = sample(seed, 1)
    mask[:, 0, 0] = 1
    outside = mask.clone()
    mask[:, 1:3, 2:5] = IGNORE
    outside[:, 1:3, 2:5] = 0
    known = (mask != IGNORE).numpy()
    p = probabilities(logits)[:, 0].numpy()
    each = [
        (p[i] * signed_distance(outside[i].numpy() > 0))[known[i]].mean() for i in range(len(mask))
    ]
    assert boundary_loss(logits, mask).item() == pytest.approx(np.mean(each), abs=1e-6)


def test_volumes_have_distances_in_three_dimensions() -> None:
    inside = np.zeros((5, 5, 5), bool)
    inside[2, 2, 2] = True
    assert signed_distance(inside)[0, 0, 0] == pytest.approx(np.sqrt(12))


def test_a_forecast_of_memory_needs_no_content() -> None:
    logits = torch.empty(2, 3, 8, 8, device="meta")
    mask = torch.empty(2, 8, 8, dtype=torch.uint8, device="meta")
    assert boundary_loss(logits, mask).is_meta
