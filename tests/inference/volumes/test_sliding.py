from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medseg.inference.volumes.sliding import (
    Box,
    Windows,
    gaussian,
    mirrored,
    slide,
    window_starts,
)
from medseg.models import create_model

from .builders import SYSTEM

SHAPE = (9, 13, 11)
WINDOWS = Windows(SHAPE, (4, 6, 5), 0.5)


def noise(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def convolutions() -> torch.nn.Module:
    torch.manual_seed(0)
    return create_model(SYSTEM, in_channels=1, num_classes=3).eval().requires_grad_(False)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 60), st.sampled_from([0, 0.1, 0.5, 0.7, 0.99]))
def test_windows_cover_an_axis_from_end_to_end_and_overlap_as_asked(
    window: int, more: int, overlap: float
) -> None:
    starts = window_starts(window + more, window, overlap)
    assert (starts[0], starts[-1]) == (0, more)
    steps = np.diff(starts)
    assert (steps > 0).all()
    # A voxel of overlap is not parted.
    assert (steps <= max(1, window * (1 - overlap) + 1e-6)).all()


@pytest.mark.parametrize(("window", "overlap"), [(9, 0.5), (8, 1.0), (8, -0.1)])
def test_windows_that_do_not_fit_are_refused(window: int, overlap: float) -> None:
    with pytest.raises(ValueError, match="windows of"):
        window_starts(8, window, overlap)


@settings(max_examples=10, deadline=None)
@given(st.tuples(*[st.integers(4, 12)] * 3), st.sampled_from([0, 0.25, 0.5, 0.9]))
def test_where_windows_agree_their_average_is_what_they_say(
    shape: tuple[int, int, int], overlap: float
) -> None:
    image = noise(2, *shape)
    found = torch.stack(list(slide(lambda x: x, image, Windows(shape, (4, 3, 2), overlap))), 1)
    assert torch.allclose(found, image, atol=1e-5)


def test_overlapping_windows_are_weighted_by_a_gaussian() -> None:
    answers = iter([0.0, 1.0])
    found = slide(
        lambda x: torch.full_like(x, next(answers)),
        torch.zeros(1, 6, 1, 1),
        Windows((6, 1, 1), (4, 1, 1), 0.5),
    )
    weight = np.exp(-0.5 * ((np.arange(4) - 1.5) / 0.5) ** 2)
    expected = [0, 0, *(weight[:2] / (weight[2:] + weight[:2])), 1, 1]
    assert torch.cat(list(found)).ravel().tolist() == pytest.approx(expected, abs=1e-6)
    assert gaussian(4) == pytest.approx(weight)


def test_the_average_is_that_of_summing_everything_up_at_once() -> None:
    network, image = convolutions(), noise(1, *SHAPE)
    weight = np.einsum("i,j,k->ijk", *WINDOWS.weights)
    total, weights = np.zeros((3, *SHAPE)), np.zeros(SHAPE)
    for corner in np.ndindex(*map(len, WINDOWS.starts)):
        where = tuple(
            slice(starts[index], starts[index] + length)
            for starts, index, length in zip(WINDOWS.starts, corner, WINDOWS.window, strict=True)
        )
        logits = network(image[(slice(None), *where)][None])[0]
        total[(slice(None), *where)] += logits.numpy() * weight
        weights[where] += weight
    found = torch.stack(list(slide(network, image, WINDOWS)), 1)
    assert found.dtype == torch.float32
    assert np.allclose(found, total / weights, atol=1e-5)


@pytest.mark.parametrize("batch", [2, 5, 100])
def test_the_batch_of_windows_changes_no_bit(batch: int) -> None:
    # Sums only: where a network rounds alike in any batch.
    image = noise(1, *SHAPE)

    def network(x: Tensor) -> Tensor:
        return torch.cat([x, x.square(), x.cumsum(2)], 1)

    one = torch.stack(list(slide(network, image, WINDOWS)))
    assert torch.equal(torch.stack(list(slide(network, image, WINDOWS, batch=batch))), one)


@pytest.mark.parametrize(
    "box", [Box((0, 13), (4, 5)), Box((3, 9), (0, 11)), Box((12, 13), (10, 11))]
)
def test_a_part_has_the_bits_of_the_whole(box: Box) -> None:
    network, image = convolutions(), noise(1, *SHAPE)
    whole = torch.stack(list(slide(network, image, WINDOWS)))
    part = torch.stack(list(slide(network, image, WINDOWS, box=box)))
    assert torch.equal(part, whole[:, :, slice(*box.rows), slice(*box.columns)])


def test_only_windows_that_touch_a_part_are_computed() -> None:
    seen = 0

    def network(x: Tensor) -> Tensor:
        nonlocal seen
        seen += len(x)
        return x

    box = Box((0, 2), (10, 11))
    assert len(list(slide(network, noise(1, *SHAPE), WINDOWS, box=box))) == SHAPE[0]
    assert seen == WINDOWS.count(box) == len(WINDOWS.starts[0])


def test_the_mean_over_mirrorings_commutes_with_mirroring() -> None:
    network, image = mirrored(convolutions(), (0, 2)), noise(1, 1, 4, 6, 5)
    turned = network(image.flip(2, 4)).flip(2, 4)
    assert torch.allclose(turned, network(image), atol=1e-6)
    assert not torch.allclose(network(image.flip(3)).flip(3), network(image), atol=1e-3)


def test_mirroring_averages_logits() -> None:
    plain, image = convolutions(), noise(1, 1, 4, 6, 5)
    expected = (plain(image) + plain(image.flip(3)).flip(3)) / 2
    assert torch.allclose(mirrored(plain, (1,))(image), expected, atol=1e-6)
