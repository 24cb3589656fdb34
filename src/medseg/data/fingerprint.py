"""What a dataset looks like in numbers: the facts that defaults are chosen from."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import IGNORE, Case, LabelMap
from medseg.data.io import MAX_PIXELS
from medseg.data.io import volume as volumes
from medseg.data.labels import Snap, read_classes
from medseg.data.preprocess import resize_mask, to_channels
from medseg.data.slices import volume_of
from medseg.data.survey import CaseFacts, Survey
from medseg.errors import DataError

MOST_LOOKED_AT = 300
"""Pixels of no more training cases are read; they lie evenly over the training part."""

SIZES = (128, 256, 384, 512)
"""Image sizes in pixels at which it is measured what resizing leaves of the masks."""

SPECK = 9
"""Components with fewer pixels, less than 3 x 3, are counted as specks, not as objects."""

_MAX_WORKERS = 8


@dataclass(frozen=True, slots=True)
class Spread:
    """Smallest, median and largest of some values."""

    smallest: float
    median: float
    largest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of at least one value."""
        found = np.fromiter(values, np.float64)
        return cls(float(found.min()), float(np.median(found)), float(found.max()))


@dataclass(frozen=True, slots=True)
class Intensities:
    """One channel over the training images, on the scale 0..255; each image counts the same.

    Attributes:
        mean: of all pixels.
        sd: their standard deviation.
        percentiles: the 1st, 25th, 50th, 75th and 99th.
    """

    mean: float
    sd: float
    percentiles: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Objects:
    """The connected components (8-neighbourhood) of a class in the training masks.

    Attributes:
        count: components of at least ``SPECK`` pixels; 0 leaves all below at 0.
        specks: smaller components.
        diameter: of a circle of equal area, in pixels at the images' own size: of the smallest
            5 %, the median, the largest 5 % of objects.
        share: the same as shares of the image's side: the diameter at an image size of S pixels
            is S times it.
    """

    count: int
    specks: int
    diameter: tuple[float, float, float]
    share: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """A foreground class in the training part.

    Attributes:
        name: of the label.
        pixel_share: of all known pixels, over all training cases.
        case_share: of the training cases that show it.
        objects: its connected components.
        kept: image size in pixels to mean Dice between the masks that show the class and what is
            left of them when they are resized to it and back: what even a perfect prediction at
            that size cannot be expected to exceed.
    """

    name: str
    pixel_share: float
    case_share: float
    objects: Objects
    kept: dict[int, float]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What the plan of a training is made from.

    Counts are of the whole dataset; everything else is of the training part alone, so that
    nothing is chosen by looking at the cases that scores are measured on.

    Attributes:
        cases: in the dataset.
        labelled: usable, with a mask.
        patients: among the usable cases; None when unknown.
        published: cases a published part, without those that have none; empty without a split.
        training: cases in the training part.
        looked_at: training cases whose pixels were read for intensities, objects and ``kept``.
        height: of the training images, in pixels.
        width: likewise.
        aspect: width over height.
        longest: the longest side of any training image, in pixels.
        channels: of the images as the network sees them.
        intensities: one a channel.
        classes: the foreground, in the order of the label map.
        spacing: between slices, rows and columns in mm, medians over the volumes looked at; None
            where the files do not say.
    """

    cases: int
    labelled: int
    patients: int | None
    published: dict[str, int]
    training: int
    looked_at: int
    height: Spread
    width: Spread
    aspect: Spread
    longest: int
    channels: int
    intensities: tuple[Intensities, ...]
    classes: tuple[ClassFacts, ...]
    spacing: tuple[float, float, float] | None

    def to_json(self) -> dict[str, Any]:
        """As plain dicts, lists, numbers and text."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Look:
    """What the pixels of one case showed.

    Attributes:
        histograms: (C, 256) shares of the image's pixels.
        areas: of the components of each foreground class, in pixels.
        pixels: of the image.
        kept: (sizes, foreground classes) Dice, NaN where the mask does not show the class.
    """

    histograms: NDArray[np.float64]
    areas: tuple[NDArray[np.int64], ...]
    pixels: int
    kept: NDArray[np.float64]


def take_fingerprint(
    survey: Survey,
    training: Sequence[Case],
    *,
    channels: int,
    snap: Snap = "auto",
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
) -> Fingerprint:
    """Measure a dataset.

    Args:
        survey: of the whole dataset, without errors.
        training: the labelled cases of the training part, at least one.
        channels: of the images as the network sees them.
        snap: as in :func:`medseg.data.integrity.check_dataset`.
        max_pixels: likewise.
        progress: called in this thread with (cases done, all cases).

    Raises:
        DataError: a file cannot be read any more.
    """
    assert survey.labels is not None, "a survey without errors has labels"
    sample = [training[int(row)] for row in _evenly(len(training), MOST_LOOKED_AT)]
    look = partial(_look, labels=survey.labels, channels=channels, snap=snap, max_pixels=max_pixels)
    looks = []
    with ThreadPoolExecutor(min(_MAX_WORKERS, os.cpu_count() or 1)) as pool:
        for done, seen in enumerate(pool.map(look, sample), start=1):
            looks.append(seen)
            if progress is not None:
                progress(done, len(sample))
    ids = {case.id for case in training}
    facts = [each for each in survey.cases if each.id in ids]
    usable = survey.usable
    patients = {case.patient for case in usable if case.patient is not None}
    longest = max(max(each.height, each.width) for each in facts)
    return Fingerprint(
        cases=len(survey.dataset.cases),
        labelled=len(usable),
        patients=len(patients) or None,
        published=dict(Counter(case.split for case in usable if case.split is not None)),
        training=len(training),
        looked_at=len(sample),
        height=Spread.of(each.height for each in facts),
        width=Spread.of(each.width for each in facts),
        aspect=Spread.of(each.width / each.height for each in facts),
        longest=longest,
        channels=channels,
        intensities=_intensities(looks),
        classes=_classes(survey.labels, facts, looks),
        spacing=_spacing(sample),
    )


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` of the places 0..count-1, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _look(case: Case, *, labels: LabelMap, channels: int, snap: Snap, max_pixels: int) -> _Look:
    assert case.mask is not None
    image = to_channels(case.image.read_image(max_pixels=max_pixels), channels)
    mask = read_classes(
        case.mask, labels, snap=snap, field_of_view=case.field_of_view, max_pixels=max_pixels
    )
    histograms = [
        np.bincount(image[..., channel].ravel(), minlength=256) / mask.size
        for channel in range(channels)
    ]
    count = len(labels.labels)
    return _Look(
        np.stack(histograms),
        tuple(component_areas(mask == index) for index in range(1, count)),
        mask.size,
        np.stack([_kept(mask, size, count) for size in SIZES]),
    )


def component_areas(region: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Pixels of each connected component (8-neighbourhood) of a (H, W) region."""
    from scipy import ndimage

    marked, count = ndimage.label(region, structure=np.ones((3, 3), np.int8))
    return np.bincount(marked.ravel(), minlength=count + 1)[1:].astype(np.int64)


def _kept(mask: NDArray[np.uint8], size: int, count: int) -> NDArray[np.float64]:
    """Dice of each foreground class with itself after resizing to ``size`` and back."""
    from PIL import Image

    height, width = mask.shape
    small = Image.fromarray(resize_mask(mask, size))
    back = np.asarray(small.resize((width, height), Image.Resampling.NEAREST))
    known = (mask != IGNORE) & (back != IGNORE)
    pairs = mask[known].astype(np.int64) * count + back[known]
    table = np.bincount(pairs, minlength=count * count).reshape(count, count)
    truth, other, both = table.sum(1)[1:], table.sum(0)[1:], table.diagonal()[1:]
    dice = np.full(count - 1, np.nan)
    np.divide(2 * both, truth + other, out=dice, where=truth > 0)
    return dice


def _intensities(looks: Sequence[_Look]) -> tuple[Intensities, ...]:
    shares = np.mean([seen.histograms for seen in looks], axis=0)  # (C, 256)
    levels = np.arange(256)
    found = []
    for each in shares:
        mean = float(each @ levels)
        variance = max(0.0, float(each @ (levels - mean) ** 2))
        reached = np.cumsum(each)
        percentiles = [
            int(np.searchsorted(reached, p / 100 * reached[-1])) for p in (1, 25, 50, 75, 99)
        ]
        found.append(Intensities(mean, math.sqrt(variance), tuple(map(float, percentiles))))
    return tuple(found)


def _classes(
    labels: LabelMap, facts: Sequence[CaseFacts], looks: Sequence[_Look]
) -> tuple[ClassFacts, ...]:
    pixels = np.array([each.pixels for each in facts], np.float64)  # (cases, classes)
    shares = pixels.sum(0) / max(1.0, pixels.sum())
    shown = (pixels > 0).mean(0)
    kept = np.array([seen.kept for seen in looks])  # (cases, sizes, classes)
    return tuple(
        ClassFacts(
            label.name,
            float(shares[index]),
            float(shown[index]),
            _objects([seen.areas[index - 1] for seen in looks], [seen.pixels for seen in looks]),
            {size: _mean_of_known(kept[:, place, index - 1]) for place, size in enumerate(SIZES)},
        )
        for index, label in enumerate(labels.foreground, start=1)
    )


def _mean_of_known(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else 1.0


def _objects(areas: Sequence[NDArray[np.int64]], pixels: Sequence[int]) -> Objects:
    sizes = np.concatenate(areas)
    of_image = np.repeat(np.array(pixels, np.float64), [len(each) for each in areas])
    large = sizes >= SPECK
    specks = int((~large).sum())
    if not large.any():
        return Objects(0, specks, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    diameter = np.sqrt(4 / math.pi * sizes[large])
    return Objects(
        int(large.sum()),
        specks,
        _percentiles(diameter),
        _percentiles(diameter / np.sqrt(of_image[large])),
    )


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, (5, 50, 95))
    return float(low), float(middle), float(high)


def _spacing(cases: Sequence[Case]) -> tuple[float, float, float] | None:
    """Medians over volumes of the distances between slices, rows and columns, in mm."""
    found = []
    for files in {volume_of(case.image) for case in cases} - {None}:
        assert files is not None
        try:
            header = volumes.read_header(files)
        except DataError:
            continue
        if header.affine is not None:
            spacing = np.linalg.norm(header.affine[:3, :3], axis=0)
            found.append([float(spacing[axis]) for axis in header.slicing.order])
    if not found:
        return None
    across, row, column = np.median(np.array(found), axis=0)
    return float(across), float(row), float(column)
