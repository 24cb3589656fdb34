"""Patches of cached volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.data.case import IGNORE
from medseg.data.volumes.cache import VolumeCache
from medseg.data.volumes.patches import (
    CachedPatches,
    Sampling,
    cut_patch,
    patch_corner,
    training_patches,
    unlabelled_patches,
)

SHAPES = ((9, 12, 11), (6, 16, 7), (12, 12, 12))
SAMPLING = Sampling(patch=(8, 8, 8), per_volume=4, foreground=1 / 3, seed=5)


@pytest.fixture
def cache(tmp_path: Path) -> VolumeCache:
    """Every voxel's value says where it is; the voxel in the middle is of class 1."""
    for row, shape in enumerate(SHAPES):
        image = np.arange(np.prod(shape), dtype=np.float16).reshape(1, *shape)
        mask = np.zeros(shape, np.uint8)
        middle = tuple(length // 2 for length in shape)
        mask[middle] = 1
        for what, array in (
            ("image", image),
            ("mask", mask),
            ("places", np.array([[1, *middle]], np.int32)),
        ):
            np.save(tmp_path / f"{row:05}.{what}.npy", array)
    return VolumeCache(tmp_path, ("a", "b", "c"), SHAPES, 1, False)


def take(cache: VolumeCache, **changes: int) -> list[CachedPatches]:
    arguments = {"batch_size": 4, "epoch": 0} | changes
    return list(training_patches(cache, np.arange(3), SAMPLING, **arguments))


def same(one: CachedPatches, other: CachedPatches) -> bool:
    return (
        torch.equal(one.image, other.image)
        and torch.equal(one.mask, other.mask)
        and (one.case_id, one.position) == (other.case_id, other.position)
    )


def test_an_epoch_shows_each_volume_as_often_as_asked(cache: VolumeCache) -> None:
    names = [name for batch in take(cache) for name in batch.case_id]
    assert {name: names.count(name) for name in names} == {"a": 4, "b": 4, "c": 4}


def test_an_epoch_that_is_resumed_goes_on_with_the_same_patches(cache: VolumeCache) -> None:
    whole, rest = take(cache, epoch=2), take(cache, epoch=2, first_step=1)
    assert len(rest) == len(whole) - 1
    assert all(same(one, other) for one, other in zip(whole[1:], rest, strict=True))


def test_two_processes_see_together_what_one_sees(cache: VolumeCache) -> None:
    shares = [take(cache, rank=rank, processes=2) for rank in range(2)]
    for whole, left, right in zip(take(cache), *shares, strict=True):
        assert torch.equal(whole.image, torch.cat([left.image, right.image]))
        assert whole.position == left.position + right.position


def test_epochs_differ(cache: VolumeCache) -> None:
    assert not same(take(cache, epoch=0)[0], take(cache, epoch=1)[0])


def test_the_share_of_centred_patches_is_exact(cache: VolumeCache) -> None:
    # Volumes larger than the patch by less than half of it cannot be told by their centre alone.
    centred = Sampling((2, 2, 2), 4, 1 / 3, 5)
    corners = [
        patch_corner((40, 40, 40), np.array([[1, 20, 20, 20]]), centred, (5, 0, position))
        for position in range(30)
    ]
    assert corners.count((19, 19, 19)) == 10


def test_structures_are_centred_on_alike() -> None:
    """A structure of few voxels as often as one of many."""
    places = np.array([[1, 5, 5, 5]] + [[2, 30, 30, 30]] * 500, np.int32)
    always = Sampling((4, 4, 4), 1, 1.0, 0)
    corners = [patch_corner((40, 40, 40), places, always, (0, 0, p)) for p in range(400)]
    assert 140 < corners.count((3, 3, 3)) < 260
    assert set(corners) == {(3, 3, 3), (28, 28, 28)}


def test_a_volume_without_structures_gives_patches_anywhere() -> None:
    nothing = np.empty((0, 4), np.int32)
    always = Sampling((4, 4, 4), 1, 1.0, 0)
    corners = {patch_corner((40, 40, 40), nothing, always, (0, 0, p)) for p in range(20)}
    assert len(corners) == 20


@given(
    shape=st.tuples(*[st.integers(1, 20)] * 3),
    patch=st.tuples(*[st.integers(1, 20)] * 3),
    foreground=st.sampled_from([0.0, 1.0]),
    position=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_a_patch_lies_in_its_volume_or_holds_all_of_it(
    shape: tuple[int, int, int], patch: tuple[int, int, int], foreground: float, position: int
) -> None:
    places = np.array([[1, *(length - 1 for length in shape)]], np.int32)
    corner = patch_corner(shape, places, Sampling(patch, 1, foreground, 0), (0, 0, position))
    for start, side, length in zip(corner, patch, shape, strict=True):
        assert min(0, length - side) <= start <= max(0, length - side)


def test_outside_a_volume_nothing_is_known(cache: VolumeCache) -> None:
    for batch in take(cache):
        for name, image, mask in zip(batch.case_id, batch.image, batch.mask, strict=True):
            outside = mask == IGNORE
            # The volume b has 6 slices and 7 columns where the patch has 8.
            assert int((~outside).sum()) == (6 * 8 * 7 if name == "b" else 8**3)
            assert not image[0][outside].any()


def test_a_patch_is_cut_from_its_corner() -> None:
    volume = np.arange(4 * 5 * 6).reshape(1, 4, 5, 6)
    np.testing.assert_array_equal(
        cut_patch(volume, (1, 0, 2), (2, 5, 3), 0), volume[:, 1:3, :, 2:5]
    )
    assert cut_patch(volume, (-1, 0, 0), (2, 1, 1), 7).ravel().tolist() == [7, 0]


def test_unlabelled_volumes_follow_each_other_for_ever(cache: VolumeCache) -> None:
    def names(epoch: int, step: int, rank: int = 0, processes: int = 1) -> tuple[str, ...]:
        return unlabelled_patches(
            cache, np.arange(3), SAMPLING, share=2 // processes, epoch=epoch, step=step, steps=3,
            rank=rank, processes=processes, offset=100,
        ).case_id  # fmt: skip

    shown = [name for epoch in range(2) for step in range(3) for name in names(epoch, step)]
    assert all(sorted(shown[turn : turn + 3]) == ["a", "b", "c"] for turn in range(0, 12, 3))
    assert names(1, 2, 0, 2) + names(1, 2, 1, 2) == names(1, 2)
