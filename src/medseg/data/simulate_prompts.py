"""Clicks, boxes and scribbles as a person might make them, from masks.

After ScribblePrompt (Wong et al. 2023, arXiv 2312.07381). All randomness is that of the generator
given: one with a key makes a sample's prompts depend on the key alone. Lengths are in pixels of the
image; the paper's are 128 pixels wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medseg.data.prompts import Box, Point, Prompts
from medseg.metrics.topology import skeleton

Region = NDArray[np.bool_]
Values = NDArray[np.float32]
"""Strokes in 0..1; or a region, 0 outside, whose parts of different sign do not join."""
Simulated = Literal["box", "point", "scribble"]

BLUR_RADIUS = 16
BLUR = (5.0, 20.0)
NOISE = (4.0, 16.0)
WARP = (1.0, 6.0)
BORDER_SEPARATION = 8


@dataclass(frozen=True)
class Simulation:
    """What a simulated person does.

    Attributes:
        kinds: of prompts to begin with; every non-empty set of them is as likely.
        jitter: each edge of a box lies less than this outside the mask, as a share of the image's
            longer side; 20 pixels in the paper's images.
        positive: fewest and most clicks, and strokes, on the structure at first.
        negative: fewest and most beside it at first.
        corrections: fewest and most clicks or strokes of a correction.
        as_released: every box begins in the image's corner, as in the authors' code.
    """

    kinds: tuple[Simulated, ...] = ("box", "point", "scribble")
    jitter: float = 20 / 128
    positive: tuple[int, int] = (1, 3)
    negative: tuple[int, int] = (0, 3)
    corrections: tuple[int, int] = (1, 3)
    as_released: bool = False

    def first(
        self, mask: Region, random: np.random.Generator, background: Region | None = None
    ) -> Prompts:
        """What the person begins with.

        Args:
            mask: ``(H, W)``, the structure; where it is empty, nothing can be on it.
            random: all randomness.
            background: ``(H, W)``, what is known not to be it; by default all the rest.
        """
        beside = ~mask if background is None else background
        sets = [
            chosen
            for count in range(1, len(self.kinds) + 1)
            for chosen in combinations(self.kinds, count)
        ]
        chosen = sets[random.integers(len(sets))]
        prompts = Prompts()
        if "box" in chosen and mask.any():
            jitter = round(self.jitter * max(mask.shape))
            box = simulated_box(mask, random, jitter=jitter, from_corner=self.as_released)
            prompts += Prompts(boxes=(box,))
        if "scribble" in chosen:
            drawn = [
                random_scribble(region, _between(random, counts), random)
                for region, counts in ((mask, self.positive), (beside, self.negative))
            ]
            prompts += _scribbled(drawn)
        if "point" in chosen:
            for region, counts, positive in (
                (mask, self.positive, True),
                (beside, self.negative, False),
            ):
                makers = [random_clicks, border_clicks, *([centre_clicks] if positive else [])]
                make = makers[int(random.integers(len(makers)))]
                places = make(region.astype(np.float32), _between(random, counts), random)
                prompts += Prompts(points=tuple(Point(x, y, positive) for x, y in places))
        return prompts

    def correction(
        self,
        mask: Region,
        predicted: Region,
        random: np.random.Generator,
        known: Region | None = None,
    ) -> Prompts:
        """What the person adds on seeing ``predicted``; nothing where nothing is wrong.

        Args:
            mask: ``(H, W)``, the structure.
            predicted: ``(H, W)``.
            random: all randomness.
            known: ``(H, W)``, where it is known whether the structure is there; by default
                everywhere.
        """
        missing, excess = mask & ~predicted, predicted & ~mask
        if known is not None:
            missing, excess = missing & known, excess & known
        kinds = [kind for kind in ("point", "scribble") if kind in self.kinds]
        if not kinds or not (missing.any() or excess.any()):
            return Prompts()
        kind = kinds[random.integers(len(kinds))]
        count = _between(random, self.corrections)
        if kind == "scribble":
            on = int(random.integers(count + 1))
            return _scribbled(
                [random_scribble(missing, on, random), random_scribble(excess, count - on, random)]
            )
        make = (random_clicks, centre_clicks, border_clicks)[int(random.integers(3))]
        error = missing.astype(np.float32) - excess.astype(np.float32)
        places = make(error, count, random)
        return Prompts(points=tuple(Point(x, y, bool(mask[y, x])) for x, y in places))


def next_click(mask: Region, predicted: Region, known: Region | None = None) -> Point | None:
    """The click of a careful person: in the middle of the largest piece of the error.

    The piece is that with the most pixels, the middle its pixel that is farthest from all others;
    the first in reading order where several are. Missing and excess pixels make pieces of their
    own. None where nothing is wrong.

    Args:
        mask: ``(H, W)``, the structure.
        predicted: ``(H, W)``.
        known: ``(H, W)``, where it is known whether the structure is there; by default everywhere.
    """
    missing, excess = mask & ~predicted, predicted & ~mask
    if known is not None:
        missing, excess = missing & known, excess & known
    pieces = _Pieces.of(missing.astype(np.float32) - excess)
    if not len(pieces.sizes):
        return None
    (y, x), *_ = pieces.middle(int(pieces.sizes.argmax()))
    return Point(int(x), int(y), bool(mask[y, x]))


def simulated_box(
    mask: Region, random: np.random.Generator, *, jitter: int = 20, from_corner: bool = False
) -> Box:
    """The mask's box, each edge up to ``jitter`` pixels, exclusive, farther out.

    Args:
        mask: ``(H, W)``, not empty.
        random: all randomness.
        jitter: 0 gives the box itself.
        from_corner: the box begins in the image's corner, and its far edges leave out the last
            column and row, as the authors' code has it.
    """
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    left, top, right, bottom = random.integers(0, max(1, jitter), 4).tolist()
    height, width = mask.shape
    end = 0 if from_corner else 1
    return Box(
        0 if from_corner else max(0, int(columns[0]) - left),
        0 if from_corner else max(0, int(rows[0]) - top),
        max(1, min(width, int(columns[-1]) + end + right)),
        max(1, min(height, int(rows[-1]) + end + bottom)),
    )


def random_clicks(
    region: Values, count: int, random: np.random.Generator, *, separation: int = 0
) -> list[tuple[int, int]]:
    """``count`` pixels (x, y) of those that are not 0, any of them as likely.

    Args:
        region: ``(H, W)``.
        count: fewer are given where no pixel is left.
        random: all randomness.
        separation: pixels nearer than this to one that was taken are not taken.
    """
    places = np.argwhere(region)
    found = []
    for _ in range(count):
        if not len(places):
            break
        y, x = places[random.integers(len(places))]
        found.append((int(x), int(y)))
        if separation:
            away = ((places - (y, x)) ** 2).sum(1) >= separation**2
            places = places[away]
    return found


def centre_clicks(region: Values, count: int, random: np.random.Generator) -> list[tuple[int, int]]:
    """Pixels (x, y) in the middle of pieces, which are drawn in proportion to their size.

    Where there are fewer pieces than clicks, the other clicks lie anywhere in the region.
    """
    pieces = _Pieces.of(region)
    sizes = pieces.sizes
    if not len(sizes):
        return []
    most = min(count, len(sizes))
    found = []
    for index in random.choice(len(sizes), most, replace=False, p=sizes / sizes.sum()):
        middle = pieces.middle(index)
        y, x = middle[random.integers(len(middle))]
        found.append((int(x), int(y)))
    return found + random_clicks(region, count - most, random)


def border_clicks(region: Values, count: int, random: np.random.Generator) -> list[tuple[int, int]]:
    """Pixels (x, y) in a band along the border of the region, of random width and depth.

    The band lies between two random levels of the blurred outside; clicks keep 8 pixels apart. In
    a region too small for a band they lie anywhere.
    """
    if not region.any():
        return []
    inside = np.abs(region)
    outside = _levels(inside, random)
    levels = np.sort(random.uniform(outside.min(), outside[inside > 0].max(), 2))
    band = inside * ((levels[0] <= outside) & (outside < levels[1]))
    chosen = band if band.any() else inside
    return random_clicks(chosen, count, random, separation=BORDER_SEPARATION)


def random_scribble(region: Region, count: int, random: np.random.Generator) -> Values:
    """Strokes of one of the three kinds; ``(H, W)`` in 0..1, empty where the region is."""
    if not count or not region.any():
        return np.zeros(region.shape, np.float32)
    make = (line_scribble, centreline_scribble, contour_scribble)[int(random.integers(3))]
    return make(region, count, random)


def line_scribble(region: Region, count: int, random: np.random.Generator) -> Values:
    """``count`` lines, each between two random pixels of the region, bent; ``(H, W)`` in 0..1."""
    places = np.argwhere(region)
    drawn = np.zeros(region.shape, np.float32)
    for _ in range(count):
        (top, left), (bottom, right) = places[random.integers(len(places), size=2)]
        steps = max(abs(bottom - top), abs(right - left)) + 1
        rows = np.linspace(top, bottom, steps).round().astype(np.intp)
        columns = np.linspace(left, right, steps).round().astype(np.intp)
        drawn[rows, columns] = 1
    return _bent(drawn, region, random)


def centreline_scribble(region: Region, count: int, random: np.random.Generator) -> Values:
    """The region's skeleton in random pieces, bent; ``(H, W)`` in 0..1."""
    del count  # the noise makes as many pieces as it does
    inner = region.copy()
    inner[[0, -1]] = False
    inner[:, [0, -1]] = False
    return _broken(skeleton(inner if inner.any() else region), region, random)


def contour_scribble(region: Region, count: int, random: np.random.Generator) -> Values:
    """A line at a random depth along the region's border, in random pieces, bent; in 0..1."""
    from scipy.ndimage import binary_erosion

    del count
    outside = _levels(region.astype(np.float32), random)
    level = random.uniform(outside.min(), outside[region].max())
    core = outside <= level
    # Beyond the image there is no border to draw along.
    return _broken(core & ~binary_erosion(core, border_value=1), region, random)


def smooth_noise(
    shape: tuple[int, int], sigma: float, random: np.random.Generator
) -> NDArray[np.float64]:
    """Gaussian noise blurred by ``sigma`` pixels, wrapped around, with mean 0 and deviation 1."""
    waves = np.fft.rfft2(random.standard_normal(shape))
    rows, columns = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    waves *= np.exp(-2 * (np.pi * sigma) ** 2 * (rows**2 + columns**2))
    waves[0, 0] = 0
    noise = np.fft.irfft2(waves, shape)
    return np.asarray(noise / max(noise.std(), 1e-12))


def _broken(line: Region, region: Region, random: np.random.Generator) -> Values:
    """Pieces of ``line``, where noise is positive, bent; all of it where that leaves nothing."""
    pieces = line & (smooth_noise(region.shape, random.uniform(*NOISE), random) > 0)
    return _bent((pieces if pieces.any() else line).astype(np.float32), region, random)


def _bent(drawn: Values, region: Region, random: np.random.Generator) -> Values:
    """``drawn`` along a smooth random displacement, then only what lies in the region.

    As it was where that leaves nothing, and a random pixel of the region where that does, too.
    """
    from scipy.ndimage import map_coordinates

    fields = [
        random.uniform(*WARP) * smooth_noise(region.shape, random.uniform(*NOISE), random)
        for _ in range(2)
    ]
    grid = np.indices(region.shape) + np.stack(fields)
    moved: Values = map_coordinates(drawn, grid, order=1, output=np.float32)
    if moved.any():
        moved = (moved - moved.min()) / np.ptp(moved) if np.ptp(moved) else moved
    for strokes in (moved * region, drawn * region):
        if strokes.any():
            return np.asarray(strokes, np.float32)
    ((x, y),) = random_clicks(region.astype(np.float32), 1, random)
    point = np.zeros_like(drawn)
    point[y, x] = 1
    return point


def _levels(region: Values, random: np.random.Generator) -> Values:
    """1 outside the region, and less the deeper inside a pixel lies."""
    from scipy.ndimage import gaussian_filter

    outside = 1 - region
    blurred = gaussian_filter(outside, random.uniform(*BLUR), mode="mirror", radius=BLUR_RADIUS)
    return np.asarray(np.maximum(blurred, outside))


@dataclass(frozen=True)
class _Pieces:
    """The parts of a region that do not touch, not even at corners.

    Attributes:
        numbers: ``(H, W)``, from 1; 0 outside.
        sizes: pixels of each.
        depth: ``(H, W)``, distance to the nearest pixel outside the piece; what lies beyond the
            image is not outside.
    """

    numbers: NDArray[np.int32]
    sizes: NDArray[np.int64]
    depth: NDArray[np.float64]

    @classmethod
    def of(cls, region: Values) -> _Pieces:
        """Of what is above 0, and by themselves of what is below."""
        from scipy.ndimage import distance_transform_edt, label

        numbers = np.zeros(region.shape, np.int32)
        depth = np.zeros(region.shape)
        for part in (region > 0, region < 0):
            if part.all():  # there is no outside: the middle of the image is the deepest
                depth[tuple(length // 2 for length in part.shape)] = 1
                numbers[:] = 1
            elif part.any():
                found, _ = label(part, np.ones((3, 3)))
                numbers[part] = found[part] + numbers.max()
                depth += distance_transform_edt(part)
        return cls(numbers, np.bincount(numbers.ravel())[1:], depth)

    def middle(self, index: int) -> NDArray[np.intp]:
        """The deepest pixels of piece ``index``, from 0: (N, 2), row and column."""
        depth = np.where(self.numbers == index + 1, self.depth, -1)
        return np.argwhere(depth == depth.max())


def _scribbled(drawn: Sequence[Values]) -> Prompts:
    return Prompts(scribbles=np.stack(drawn)) if any(each.any() for each in drawn) else Prompts()


def _between(random: np.random.Generator, bounds: tuple[int, int]) -> int:
    return int(random.integers(bounds[0], bounds[1] + 1))
