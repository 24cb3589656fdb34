from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.data.preprocess import resize_image, resize_mask, to_channels

from .builders import noise


def test_grey_is_repeated_and_comes_back() -> None:
    grey = noise(channels=1)[:, :, None]
    colour = to_channels(grey, 3)
    assert all(np.array_equal(colour[..., c], grey[..., 0]) for c in range(3))
    assert np.array_equal(to_channels(colour, 1), grey)


def test_colour_becomes_luma() -> None:
    image = noise()
    luma = image @ [0.299, 0.587, 0.114]
    assert np.abs(to_channels(image, 1)[..., 0] - luma).max() <= 0.51


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_with_the_right_channels_is_left_alone(channels: int) -> None:
    image = noise(channels=3)[..., :channels]
    assert np.array_equal(to_channels(image, channels), image)


@given(
    height=st.integers(1, 40), width=st.integers(1, 40), size=st.integers(1, 40),
    value=st.integers(0, 255),
)  # fmt: skip
def test_a_flat_image_stays_flat(height: int, width: int, size: int, value: int) -> None:
    resized = resize_image(np.full((height, width, 3), value, np.uint8), size)
    assert resized.shape == (size, size, 3)
    assert resized.dtype == np.float32
    assert np.allclose(resized, value, atol=1e-3)


@given(seed=st.integers(0, 99), factor=st.integers(1, 5))
def test_shrinking_keeps_the_mean_and_the_range(seed: int, factor: int) -> None:
    image = noise(seed, (12 * factor, 12 * factor))
    resized = resize_image(image, 12)
    assert image.min() - 1e-3 <= resized.min() <= resized.max() <= image.max() + 1e-3
    assert abs(resized.mean() - image.mean()) < 10


@given(seed=st.integers(0, 99), size=st.integers(1, 30))
def test_resizing_commutes_with_flips(seed: int, size: int) -> None:
    image = noise(seed, (17, 23))
    assert np.allclose(resize_image(image[:, ::-1], size), resize_image(image, size)[:, ::-1],
                       atol=1e-3)  # fmt: skip


@given(factor=st.integers(1, 6))
def test_a_mask_grown_by_a_whole_factor_is_its_pixels_repeated(factor: int) -> None:
    mask = noise(3, (5, 5), channels=1)
    assert np.array_equal(resize_mask(mask, 5 * factor), np.kron(mask, np.ones((factor,) * 2)))


@given(height=st.integers(1, 40), width=st.integers(1, 40), size=st.integers(1, 40))
def test_a_resized_mask_invents_no_values(height: int, width: int, size: int) -> None:
    mask = noise(1, (height, width), channels=1) // 50
    assert set(resize_mask(mask, size).ravel().tolist()) <= set(mask.ravel().tolist())
