"""Superpixels: pieces of an image that look alike inside, made without any mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def felzenszwalb(
    image: NDArray[np.float32], *, scale: float, sigma: float = 0.5, smallest: int = 32
) -> NDArray[np.int64]:
    """Felzenszwalb and Huttenlocher 2004 (doi 10.1023/B:VISI.0000022288.19776.77).

    Neighbours, diagonal ones too, join in the order of their difference, as long as it is no more
    than what either piece has inside, plus ``scale / 255`` over its size; then pieces that are too
    small join, in the same order.

    Args:
        image: ``(H, W)`` in 0..1.
        scale: larger values give larger pieces.
        sigma: of the blur before, in pixels.
        smallest: pixels; smaller pieces join the neighbour that is most like them.

    Returns:
        ``(H, W)`` numbers of the pieces, from 0.
    """
    from scipy.ndimage import gaussian_filter

    values = gaussian_filter(image.astype(np.float64), sigma)
    first, second, weights = _neighbours(values)
    order = np.argsort(weights, kind="stable")
    pairs = list(zip(first[order].tolist(), second[order].tolist(), strict=True))
    found = _Pieces(values.size)
    for (a, b), weight in zip(pairs, weights[order].tolist(), strict=True):
        a, b = found.of(a), found.of(b)
        if a != b and weight <= min(
            found.inside[a] + scale / 255 / found.sizes[a],
            found.inside[b] + scale / 255 / found.sizes[b],
        ):
            found.inside[found.join(a, b)] = weight
    for a, b in pairs:
        a, b = found.of(a), found.of(b)
        if a != b and min(found.sizes[a], found.sizes[b]) < smallest:
            found.join(a, b)
    roots = np.array([found.of(pixel) for pixel in range(values.size)])
    _, numbers = np.unique(roots, return_inverse=True)
    return np.asarray(numbers.reshape(values.shape), np.int64)


def _neighbours(
    values: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pairs of touching pixels, by their places in reading order, and how much they differ."""
    places = np.arange(values.size).reshape(values.shape)
    ends = (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None, -1), slice(None, -1)), (slice(1, None), slice(1, None))),
        ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))),
    )
    first, second = (np.concatenate([places[pair[end]].ravel() for pair in ends]) for end in (0, 1))
    flat = values.ravel()
    return first, second, np.abs(flat[first] - flat[second])


class _Pieces:
    """Disjoint sets of pixels, each known by one of its pixels."""

    def __init__(self, count: int) -> None:
        self.parents = list(range(count))
        self.sizes = [1] * count
        self.inside = [0.0] * count

    def of(self, pixel: int) -> int:
        parents = self.parents
        while parents[pixel] != pixel:
            parents[pixel] = parents[parents[pixel]]
            pixel = parents[pixel]
        return pixel

    def join(self, a: int, b: int) -> int:
        if self.sizes[a] < self.sizes[b]:
            a, b = b, a
        self.parents[b] = a
        self.sizes[a] += self.sizes[b]
        return a
