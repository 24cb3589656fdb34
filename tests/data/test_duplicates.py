from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from medseg.data.duplicates import (
    FARTHEST,
    NEAREST,
    SIDE,
    find_near,
    luminance,
    thumbnail,
)

from .builders import scene


def seen(picture: Image.Image) -> NDArray[np.uint8]:
    small = thumbnail(np.asarray(picture))
    assert small is not None
    return small


def album(*seeds: int) -> NDArray[np.uint8]:
    return np.stack([seen(scene(seed)) for seed in seeds])


def pairs(thumbnails: NDArray[np.uint8]) -> set[tuple[int, int]]:
    found = find_near(thumbnails, [None] * len(thumbnails))
    return {(match.first, match.second) for match in found.matches}


def recompressed(picture: Image.Image) -> Image.Image:
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=30)
    return Image.open(data)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "halved": lambda picture: picture.resize((48, 48), Image.Resampling.BICUBIC),
    "squashed": lambda picture: picture.resize((128, 80), Image.Resampling.BILINEAR),
    "JPEG of quality 30": recompressed,
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.1),
    "of less contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(0.8),
    "gamma": lambda picture: picture.point([int(255 * (v / 255) ** 0.7) for v in range(256)]),
    "moved": lambda picture: picture.crop((3, 0, 96, 96)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_nothing_else(change: str) -> None:
    copy = seen(CHANGES[change](scene(3)))
    assert pairs(np.concatenate([album(*range(30)), copy[None]])) == {(3, 30)}


def test_different_pictures_are_not_alike() -> None:
    assert pairs(album(*range(60))) == set()


@pytest.mark.parametrize("change", ["mirrored", "turned"])
def test_mirrored_and_turned_copies_are_not_looked_for(change: str) -> None:
    picture = scene(3)
    copy = picture.transpose(
        Image.Transpose.FLIP_LEFT_RIGHT if change == "mirrored" else Image.Transpose.ROTATE_90
    )
    assert pairs(np.concatenate([album(*range(30)), seen(copy)[None]])) == set()


def test_the_distance_of_a_copy_is_zero() -> None:
    (match,) = find_near(album(1, 2, 1), [None] * 3).matches
    assert (match.first, match.second) == (0, 2)
    assert match.distance == pytest.approx(0, abs=1e-5)


def test_pictures_of_one_patient_are_left_out() -> None:
    thumbnails = album(1, 2, 1, 1)
    found = find_near(thumbnails, ["a", "b", "a", None])
    assert {(match.first, match.second) for match in found.matches} == {(0, 3), (2, 3)}


def test_between_two_sets_only_pairs_across_are_found() -> None:
    found = find_near(album(1, 1, 2), [None] * 3, album(5, 2, 5))
    assert [(match.first, match.second) for match in found.matches] == [(2, 1)]


def test_where_all_pictures_are_alike_only_copies_are_near() -> None:
    common = np.asarray(scene(99), np.float32)
    own = [0.55 * common + 0.45 * np.asarray(scene(seed)) for seed in range(40)]
    thumbnails = np.stack([seen(Image.fromarray(picture.astype(np.uint8))) for picture in own])
    found = find_near(np.concatenate([thumbnails, thumbnails[:1]]), [None] * 41)
    assert found.limit < 0.15
    assert [(match.first, match.second) for match in found.matches] == [(0, 40)]
    assert find_near(album(*range(40)), [None] * 40).limit > 0.2


@pytest.mark.parametrize("level", [0, 7, 255])
def test_an_image_that_shows_nothing_has_no_thumbnail(level: int) -> None:
    grain = np.random.default_rng(0).integers(0, 3, (64, 64))
    assert thumbnail(np.clip(level + grain, 0, 255).astype(np.uint8)) is None


@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 2, 3, 4, 5])),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_images_of_every_size_can_be_compared(shape: tuple[int, int, int], seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    grey = luminance(image)
    small = thumbnail(grey)
    assert grey.shape == shape[:2]
    if small is not None:
        assert small.shape == (SIDE, SIDE)
        (match,) = find_near(np.stack([small, small]), [None, None]).matches
        assert match.distance <= NEAREST


@given(st.lists(st.integers(0, 12), min_size=1, max_size=30))
@settings(max_examples=25, deadline=None)
def test_every_pair_is_listed_once_in_order_and_within_the_limit(seeds: list[int]) -> None:
    found = find_near(album(*seeds), [None] * len(seeds))
    distances = [match.distance for match in found.matches]
    listed = [(match.first, match.second) for match in found.matches]
    assert NEAREST <= found.limit <= FARTHEST
    assert distances == sorted(distances)
    assert all(0 <= distance <= found.limit for distance in distances)
    assert len(set(listed)) == len(listed)
    assert {(one, two) for one, two in listed if seeds[one] == seeds[two]} == {
        (one, two) for two in range(len(seeds)) for one in range(two) if seeds[one] == seeds[two]
    }
