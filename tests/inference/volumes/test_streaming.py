from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from medseg.inference.volumes.sliding import Box
from medseg.inference.volumes.streaming import Linear, Regrid

LENGTHS = st.integers(1, 17)


def noise(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def regridded(logits: Tensor, wanted: tuple[int, int, int], box: Box | None = None) -> Tensor:
    regrid = Regrid(tuple(logits.shape[1:]), wanted)
    box = box or Box((0, wanted[1]), (0, wanted[2]))
    near = regrid.reach(box)
    planes = logits[:, :, slice(*near.rows), slice(*near.columns)].unbind(1)
    return torch.stack(list(regrid.stream(iter(planes), box)), 1)


@pytest.mark.parametrize("wanted", [(5, 7, 6), (9, 8, 13), (5, 21, 6)])
def test_a_finer_grid_is_interpolated_trilinearly(wanted: tuple[int, int, int]) -> None:
    logits = noise(3, 5, 7, 6)
    expected = F.interpolate(logits[None], wanted, mode="trilinear", align_corners=False)[0]
    assert torch.allclose(regridded(logits, wanted), expected, atol=1e-6)


@settings(deadline=None)
@given(LENGTHS, LENGTHS)
def test_a_constant_stays_what_it_is(length: int, wanted: int) -> None:
    found = Linear(length, wanted).stretch(torch.full((length,), 3.0), 0, 0, wanted)
    assert found.tolist() == pytest.approx([3.0] * wanted, abs=1e-5)


def test_a_coarser_grid_averages_what_lies_within_reach() -> None:
    found = Linear(8, 2).stretch(torch.eye(8), 0, 0, 2)
    weights = [2.5, 3.5, 3.5, 2.5, 1.5, 0.5]
    beyond = [0.5 + 1.5, 0, 0, 0, 0, 0]
    expected = np.add(weights, beyond) / sum([*weights, 0.5, 1.5])
    assert found[0].tolist() == pytest.approx([*expected, 0, 0], abs=1e-6)
    assert found[1].tolist() == pytest.approx([0, 0, *expected[::-1]], abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[LENGTHS] * 3), st.tuples(*[LENGTHS] * 3), st.data())
def test_a_part_has_the_bits_of_the_whole(
    shape: tuple[int, int, int], wanted: tuple[int, int, int], data: st.DataObject
) -> None:
    top, left = (data.draw(st.integers(0, length - 1)) for length in wanted[1:])
    bottom = data.draw(st.integers(top + 1, wanted[1]))
    right = data.draw(st.integers(left + 1, wanted[2]))
    logits = noise(2, *shape)
    part = regridded(logits, wanted, Box((top, bottom), (left, right)))
    assert torch.equal(part, regridded(logits, wanted)[:, :, top:bottom, left:right])


@settings(deadline=None)
@given(LENGTHS, LENGTHS)
def test_streaming_slices_gives_the_bits_of_stretching_them_at_once(
    length: int, wanted: int
) -> None:
    values, linear = noise(length, 2, 3), Linear(length, wanted)
    streamed = torch.stack(list(linear.stream(iter(values))))
    assert torch.equal(streamed, linear.stretch(values, 0, 0, wanted))


def test_slices_are_taken_only_when_they_are_needed() -> None:
    taken = 0

    def planes() -> object:
        nonlocal taken
        for plane in noise(8, 2, 3):
            taken += 1
            yield plane

    stream = Linear(8, 16).stream(planes())  # type: ignore[arg-type]
    for _ in range(4):
        next(stream)
    assert taken == 3
