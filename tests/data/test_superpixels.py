from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, label

from medseg.data.superpixels import felzenszwalb


def picture(seed: int, size: tuple[int, int] = (18, 15)) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).random(size), 1.5)
    return ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)


def by_label_array(image: np.ndarray, scale: float, sigma: float, smallest: int) -> np.ndarray:
    """The paper's algorithm with a label array instead of sets."""
    values = gaussian_filter(image.astype(np.float64), sigma)
    height, width = values.shape
    edges = []
    for y in range(height):
        for x in range(width):
            for down, right in ((0, 1), (1, 0), (1, 1), (-1, 1)):
                there = (y + down, x + right)
                if 0 <= there[0] < height and there[1] < width:
                    edges.append((abs(values[y, x] - values[there]), (y, x), there))
    edges.sort(key=lambda edge: edge[0])
    pieces = np.arange(values.size).reshape(values.shape)
    inside = np.zeros(values.size)
    for weight, a, b in edges:
        first, second = pieces[a], pieces[b]
        limit = min(
            inside[number] + scale / 255 / np.count_nonzero(pieces == number)
            for number in (first, second)
        )
        if first != second and weight <= limit:
            pieces[pieces == second] = first
            inside[first] = weight
    for _, a, b in edges:
        first, second = pieces[a], pieces[b]
        sizes = [np.count_nonzero(pieces == number) for number in (first, second)]
        if first != second and min(sizes) < smallest:
            pieces[pieces == second] = first
    return pieces


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    pairs = set(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    return len(pairs) == len(np.unique(a)) == len(np.unique(b))


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1.0, 20.0, 300.0]))
def test_a_plain_loop_over_label_arrays_finds_the_same_pieces(seed: int, scale: float) -> None:
    image = picture(seed, (9, 11))
    found = felzenszwalb(image, scale=scale, smallest=5)
    assert same_partition(found, by_label_array(image, scale, 0.5, 5))


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_pieces_are_connected_numbered_from_0_and_not_too_small(scale: float) -> None:
    found = felzenszwalb(picture(3, (40, 36)), scale=scale, smallest=20)
    numbers, sizes = np.unique(found, return_counts=True)
    assert numbers.tolist() == list(range(len(numbers)))
    assert sizes.min() >= 20
    for number in numbers:
        assert label(found == number, np.ones((3, 3)))[1] == 1


def test_a_larger_scale_gives_fewer_pieces() -> None:
    image = picture(5, (40, 36))
    counts = [felzenszwalb(image, scale=scale).max() + 1 for scale in (1.0, 100.0, 5000.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


def test_flat_halves_are_two_pieces_and_a_flat_image_is_one() -> None:
    halves = np.zeros((16, 16), np.float32)
    halves[:, 8:] = 1
    found = felzenszwalb(halves, scale=10.0, sigma=0.01)
    np.testing.assert_array_equal(found != found[0, 0], halves > 0)
    assert felzenszwalb(np.zeros((8, 8), np.float32), scale=1.0).max() == 0
