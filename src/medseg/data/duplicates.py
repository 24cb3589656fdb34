"""Images that show almost the same: copies that were scaled, compressed or brightened, and frames
of one video.

Equal pixels are found by their hash; here, two looks at a 32 x 32 thumbnail find what is nearly
equal. The first is quick: 64 bits, the signs of the lowest 64 coefficients of the thumbnail's
cosine transform but the mean (a pHash; C. Zauner, "Implementation and benchmarking of perceptual
image hash functions", 2010), of which at most 14 may differ. The second decides: the thumbnails
are normalised locally (less the mean, over the standard deviation, of a neighbourhood), so that
neither brightness nor the outline of an eye or a body counts more than what lies inside; the
middle 24 x 24 of one is laid over the other, shifted by up to 4, and the distance is 1 minus the
best correlation. 0 is a copy; images of different subjects are mostly above 0.4.

What is near depends on how alike images are that have nothing to do with each other: retinas are,
photographs of polyps are not. From 2,000 random pairs comes the correlation that lies 7 standard
deviations above theirs, on Fisher's scale; a pair must reach it, though never less than 0.65 nor
more than 0.9.

Mirrored and rotated copies, crops of more than about 4 % of a side and neighbouring tiles of one
slide are not found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
"""Pixels of a thumbnail's side."""

MOST_BITS = 14
NEAREST = 0.1
"""Pairs of at most this distance are near in every dataset."""
FARTHEST = 0.35
"""Pairs of more than this distance are near in none."""

_SHIFT = 4
_DEVIATIONS = 7
_SAMPLES = 2000
_FEWEST_SAMPLES = 100
_MOST_CANDIDATES = 50
_BLANK = 2.0
_BLUR = 2.0
_NOISE = 4.0
_ROWS = 256
_PAIRS = 2048


class Match(NamedTuple):
    """Two images that are near: their places in what was searched, and their distance in 0..1."""

    first: int
    second: int
    distance: float


class Found(NamedTuple):
    """What :func:`find_near` found.

    Attributes:
        matches: nearest first.
        limit: the distance up to which a pair is near, from ``NEAREST`` to ``FARTHEST``.
    """

    matches: list[Match]
    limit: float


def luminance(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) uint8 of a (H, W, C) image: of three channels the luminance, else the mean."""
    channels = image.shape[2]
    if channels == 3:
        return np.asarray(Image.fromarray(image).convert("L"))
    plane = image[..., 0] if channels == 1 else image.mean(axis=2).astype(np.uint8)
    return np.ascontiguousarray(plane)


def thumbnail(grey: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """What :func:`find_near` compares: (32, 32) means; None when nothing is to be seen.

    Args:
        grey: (H, W) of :func:`luminance`. The aspect ratio is not kept, so that squashed copies
            are found.
    """
    small = np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BOX))
    return small if small.std() > _BLANK else None


def find_near(
    thumbnails: NDArray[np.uint8],
    groups: Sequence[str | None],
    others: NDArray[np.uint8] | None = None,
) -> Found:
    """Find all pairs of near images, within a set or between two.

    Of each image the 50 others with the nearest hash are looked at. 20,000 images take about 10 s
    and 300 MB.

    Args:
        thumbnails: (N, 32, 32) of :func:`thumbnail`, one or more.
        groups: pairs of one group (the patient) are left out; None belongs to none.
        others: (M, 32, 32) of another set; then only pairs between the two are searched and
            ``second`` counts in it.
    """
    numbers: dict[str, int] = {}
    codes = np.array(
        [
            -1 - place if group is None else numbers.setdefault(group, len(numbers))
            for place, group in enumerate(groups)
        ]
    )
    limit = _limit(thumbnails, codes, others)
    candidates = _candidates(thumbnails, codes, others)
    distances = _distances(thumbnails, candidates, thumbnails if others is None else others)
    near = np.flatnonzero(distances <= limit)
    near = near[np.argsort(distances[near], kind="stable")]
    matches = [
        Match(int(first), int(second), float(distance))
        for (first, second), distance in zip(candidates[near], distances[near], strict=True)
    ]
    return Found(matches, limit)


def _limit(
    thumbnails: NDArray[np.uint8], codes: NDArray[Any], others: NDArray[np.uint8] | None
) -> float:
    """The distance that no pair of unrelated images comes below."""
    rng = np.random.default_rng(0)
    ends = len(thumbnails), len(thumbnails if others is None else others)
    pairs = np.stack([rng.integers(0, end, _SAMPLES) for end in ends], axis=1)
    if others is None:
        pairs = np.sort(pairs, axis=1)
        pairs = pairs[codes[pairs[:, 0]] != codes[pairs[:, 1]]]
    pairs = np.unique(pairs, axis=0)
    if len(pairs) < _FEWEST_SAMPLES:
        return NEAREST
    distances = _distances(thumbnails, pairs, thumbnails if others is None else others)
    scale = np.arctanh(np.clip(1 - distances, 0, 0.999))
    middle, upper = np.quantile(scale, [0.5, 0.977])
    # The 97.7th percentile of a normal distribution lies 2 standard deviations above its middle.
    unusual = np.tanh(middle + _DEVIATIONS * (upper - middle) / 2)
    return float(np.clip(1 - unusual, NEAREST, FARTHEST))


def _candidates(
    thumbnails: NDArray[np.uint8], codes: NDArray[Any], others: NDArray[np.uint8] | None
) -> NDArray[np.intp]:
    """(P, 2) pairs whose hashes differ in few bits."""
    rows = _hashes(thumbnails)
    columns = rows if others is None else _hashes(others)
    found = []
    for start in range(0, len(rows), _ROWS):
        block = slice(start, start + _ROWS)
        bits = np.bitwise_count(rows[block, None] ^ columns[None])
        if others is None:
            bits[codes[block, None] == codes[None]] = 64
            bits[np.arange(len(rows))[block, None] >= np.arange(len(columns))[None]] = 64
        for row in np.flatnonzero((bits <= MOST_BITS).any(axis=1)):
            near = np.flatnonzero(bits[row] <= MOST_BITS)
            if len(near) > _MOST_CANDIDATES:
                near = near[np.argsort(bits[row][near], kind="stable")[:_MOST_CANDIDATES]]
            found.append(np.stack([np.full(len(near), start + row), near], axis=1))
    return np.concatenate(found) if found else np.empty((0, 2), np.intp)


def _hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(N,) hashes of 64 bits."""
    transform = _cosines()
    order = _lowest()
    signs = np.empty((len(thumbnails), 64), bool)
    for block in _blocks(len(thumbnails), _PAIRS):
        spectrum = transform @ thumbnails[block].astype(np.float32) @ transform.T
        signs[block] = spectrum.reshape(-1, SIDE * SIDE)[:, order] > 0
    return np.packbits(signs, axis=1).view(np.uint64)[:, 0]


def _distances(
    first: NDArray[np.uint8], pairs: NDArray[np.intp], second: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """(P,) distances of (P, 2) pairs of thumbnails."""
    result = np.empty(len(pairs), np.float32)
    for block in _blocks(len(pairs), _PAIRS):
        one = _normalised(first[pairs[block, 0]])
        two = _normalised(second[pairs[block, 1]])
        result[block] = 1 - np.maximum(_correlation(one, two), _correlation(two, one))
    return result


def _correlation(still: NDArray[np.float32], moved: NDArray[np.float32]) -> NDArray[np.float32]:
    """(P,) best correlations of the middle of one field with the other, over all shifts."""
    size = SIDE - 2 * _SHIFT
    middle = np.zeros_like(still)
    inner = slice(_SHIFT, SIDE - _SHIFT)
    middle[:, inner, inner] = still[:, inner, inner]
    middle[:, inner, inner] -= middle[:, inner, inner].mean(axis=(1, 2), keepdims=True)
    norm = np.sqrt(np.square(middle).sum(axis=(1, 2)))[:, None, None]
    shared = np.fft.irfft2(
        np.fft.rfft2(moved) * np.conj(np.fft.rfft2(middle)), s=(SIDE, SIDE), axes=(1, 2)
    )
    shifts = np.arange(-_SHIFT, _SHIFT + 1)
    products = shared[:, shifts[:, None], shifts[None]]
    means = _window_sums(moved, size) / size**2
    spread = np.sqrt(
        np.maximum(_window_sums(np.square(moved), size) - size**2 * np.square(means), 0)
    )
    correlations = products / np.maximum(norm * spread, 1e-3)
    best: NDArray[np.float32] = correlations.max(axis=(1, 2)).astype(np.float32)
    return np.clip(best, 0, 1)


def _window_sums(field: NDArray[np.float32], size: int) -> NDArray[np.float64]:
    """(P, 9, 9) sums over every window of that size."""
    total = np.zeros((len(field), SIDE + 1, SIDE + 1))
    total[:, 1:, 1:] = field.cumsum(axis=1, dtype=np.float64).cumsum(axis=2)
    sums: NDArray[np.float64] = (
        total[:, size:, size:]
        - total[:, :-size, size:]
        - total[:, size:, :-size]
        + total[:, :-size, :-size]
    )
    return sums


def _normalised(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Local mean 0 and local standard deviation 1, less where it is within the noise."""
    blur = _blur()
    detail = thumbnails.astype(np.float32)
    detail -= blur @ detail @ blur.T
    spread = blur @ np.square(detail) @ blur.T
    field: NDArray[np.float32] = detail / np.sqrt(spread + _NOISE**2)
    return field


@cache
def _cosines() -> NDArray[np.float32]:
    """The orthogonal matrix of the cosine transform (DCT-II), but for the scale of the mean."""
    order, place = np.mgrid[:SIDE, :SIDE]
    matrix: NDArray[np.float32] = np.cos(np.pi * (2 * place + 1) * order / (2 * SIDE)).astype("f4")
    return matrix


@cache
def _lowest() -> NDArray[np.intp]:
    """Places of the 64 coefficients of lowest frequency but the mean, in a fixed order."""
    down, right = np.mgrid[:SIDE, :SIDE]
    return np.argsort((down + right).ravel(), kind="stable")[1:65]


@cache
def _blur() -> NDArray[np.float32]:
    """Gaussian smoothing along one axis, mirrored at the ends."""
    place = np.arange(SIDE)
    reach = np.arange(-4 * SIDE, 5 * SIDE)
    source = np.where(reach // SIDE % 2 == 0, reach % SIDE, SIDE - 1 - reach % SIDE)
    weights = np.exp(-((reach[None] - place[:, None]) ** 2) / (2 * _BLUR**2))
    matrix = np.zeros((SIDE, SIDE))
    np.add.at(matrix.T, source, weights.T)
    smoothing: NDArray[np.float32] = (matrix / matrix.sum(axis=1, keepdims=True)).astype("f4")
    return smoothing


def _blocks(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))
