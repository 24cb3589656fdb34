"""Looking at every file of a dataset once and saying all that is wrong with it."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data import duplicates
from medseg.data.case import IGNORE, Case, Dataset, LabelMap, Problem
from medseg.data.io import MAX_PIXELS, MaskFile, is_rotated
from medseg.data.labels import (
    Snap,
    classify,
    count_values,
    describe_unexpected,
    infer_label_map,
    should_snap,
    stored_values,
)
from medseg.data.outliers import Outliers, find_outliers
from medseg.data.sites import find_sites, site_problems
from medseg.data.slices import mixed_orientations
from medseg.data.source import File, Source
from medseg.data.survey import CaseFacts, NearPair, Survey, clusters_of
from medseg.errors import DataError, plural

_MAX_WORKERS = 8

# A mask with more values is no label mask; keeping them all would let memory grow with the images.
_MAX_VALUES_KEPT = 1024


@dataclass(frozen=True, slots=True)
class _Mask:
    """A mask's summary: the commonest values with their pixel counts, in terms of ``rgb``."""

    sha256: str
    content: str
    values: NDArray[np.int32]
    counts: NDArray[np.int64]
    rgb: bool
    lossy: bool


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look at a case's files showed; pixels are not kept."""

    case: Case
    image_sha256: str = ""
    content: str = ""
    size: tuple[int, int] = (0, 0)
    channels: int = 1
    mask: _Mask | None = None
    problems: tuple[Problem, ...] = ()
    thumbnail: NDArray[np.uint8] | None = None
    mean: float = 0.0
    deviation: float = 0.0


def check_dataset(
    dataset: Dataset,
    *,
    snap: Snap = "auto",
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> Survey:
    """Read every image and mask once and list every problem.

    Args:
        dataset: of :func:`medseg.data.layouts.open_dataset`.
        snap: whether mask values that no class has go to the nearest class; ``auto`` does so in
            lossy files only.
        max_pixels: larger images are errors.
        progress: called in this thread with (cases done, all cases).
        workers: threads; by default one a core, at most 8.

    Returns:
        The survey; problems never raise.
    """
    look = partial(_look, labels=dataset.labels, max_pixels=max_pixels)
    looks = []
    with ThreadPoolExecutor(workers or min(_MAX_WORKERS, os.cpu_count() or 1)) as pool:
        for done, seen in enumerate(pool.map(look, dataset.cases), start=1):
            looks.append(seen)
            if progress is not None:
                progress(done, len(dataset.cases))
    problems = [*dataset.problems, *_unwritable_names(dataset)]
    # The slices of a damaged volume share a problem.
    problems += dict.fromkeys(problem for seen in looks for problem in seen.problems)
    problems += mixed_orientations(dataset.cases, dataset.root)
    labels, wrong = _labels(dataset, looks)
    problems += wrong
    facts = []
    for seen in looks:
        if seen.problems:
            continue
        pixels, wrong = _class_pixels(seen, labels, snap)
        problems += wrong
        if not wrong:
            facts.append(_facts(seen, pixels))
    problems += _lossy_masks(dataset, looks, labels, snap)
    problems += _suspicious_masks(dataset, facts, labels)
    problems += _repeated_images(looks)
    near, limit = _near_pairs(looks)
    problems += _near_duplicates(dataset.cases, near)
    problems += _divided_patients(dataset.cases)
    outliers = find_outliers(facts, labels)
    problems += _unlike_others(dataset, outliers)
    sites = find_sites(dataset.cases, facts, labels)
    problems += site_problems(sites)
    channels, wrong = _channels(looks)
    problems += wrong
    return Survey(
        dataset,
        labels,
        channels,
        tuple(facts),
        tuple(problems),
        near,
        limit,
        outliers,
        sites,
        {seen.case.id: seen.thumbnail for seen in looks if seen.thumbnail is not None},
    )


def _unwritable_names(dataset: Dataset) -> Iterator[Problem]:
    """Names that neither the run's files nor the report can hold."""
    for case in dataset.cases:
        try:
            f"{dataset.root.resolve().name}/{case.id}".encode()
        except UnicodeEncodeError:
            yield Problem(
                "error",
                "file-name",
                str(case.image),
                "its name is not valid Unicode",
                "Rename it, e.g. with convmv",
            )


def _look(case: Case, *, labels: LabelMap | None, max_pixels: int) -> _Look:
    problems = []
    image = mask = None
    try:
        image = case.image.read_image(max_pixels=max_pixels)
    except DataError as error:
        problems.append(_unreadable("image", error))
    try:
        mask = case.mask.read_mask(max_pixels=max_pixels) if case.mask else None
    except DataError as error:
        problems.append(_unreadable("mask", error))
    view = case.field_of_view
    try:
        seen = view.read_mask(max_pixels=max_pixels) if view else None
    except DataError as error:
        problems.append(_unreadable("field-of-view", error))
        seen = None
    summary = None
    if mask is not None:
        summary = _summary(case, mask, labels)
    if image is None:
        return _Look(case, mask=summary, problems=tuple(problems))
    for what, source, values in (("mask", case.mask, mask), ("field of view", view, seen)):
        if values is not None and values.values.shape != image.shape[:2]:
            problems.append(_size_mismatch(case, what, source, image, values))
    red = image[..., 0]
    grey = image.shape[2] in (1, 3) and all(
        np.array_equal(red, image[..., channel]) for channel in range(1, image.shape[2])
    )
    luminance = duplicates.luminance(image[..., :1] if grey else image)
    return _Look(
        case,
        case.image.sha256(),
        _content(image[..., :1] if grey else image) if image.min() < image.max() else "",
        (image.shape[0], image.shape[1]),
        1 if grey else image.shape[2],
        summary,
        tuple(problems),
        duplicates.thumbnail(luminance),
        *_brightness(luminance),
    )


def _brightness(luminance: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation of grey values."""
    counts = np.bincount(luminance.ravel(), minlength=256)
    values = np.arange(256)
    mean = float(counts @ values / luminance.size)
    variance = float(counts @ np.square(values - mean) / luminance.size)
    return round(mean, 2), round(variance**0.5, 2)


def _channels(looks: list[_Look]) -> tuple[int, list[Problem]]:
    """Channels of the dataset's images, and the images that have another number."""
    counts = Counter(seen.channels for seen in _not_for_testing(looks) if seen.image_sha256)
    if not counts or set(counts) <= {1, 3}:
        return max(counts, default=1), []
    expected = counts.most_common(1)[0][0]
    return expected, [
        Problem(
            "error",
            "channel-count",
            str(seen.case.image),
            f"has {seen.channels} channels; most images have {expected}",
            "All images must have the same channels",
        )
        for seen in looks
        if seen.image_sha256 and seen.channels != expected
    ]


def _not_for_testing(looks: list[_Look]) -> list[_Look]:
    """What decisions may be made from: all that is not published for testing, if there is any."""
    return [seen for seen in looks if seen.case.split != "test"] or looks


def _summary(case: Case, mask: MaskFile, labels: LabelMap | None) -> _Mask:
    rgb = mask.rgb or (labels is not None and labels.rgb)
    histogram = count_values(MaskFile(stored_values(mask, rgb=rgb), rgb=rgb, lossy=mask.lossy))
    common = sorted(histogram.items(), key=lambda item: -item[1])
    if labels is None or not mask.lossy:
        common = common[:_MAX_VALUES_KEPT]
    values = np.array([value for value, _ in common], np.int32)
    counts = np.array([count for _, count in common], np.int64)
    assert case.mask is not None
    digest = case.mask.sha256()
    if case.field_of_view is not None:
        digest = hashlib.sha256(f"{digest}{case.field_of_view.sha256()}".encode()).hexdigest()
    return _Mask(digest, _content(mask.values), values, counts, rgb, mask.lossy)


def _content(array: NDArray[Any]) -> str:
    digest = hashlib.sha256(f"{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _unreadable(what: str, error: DataError) -> Problem:
    return Problem("error", f"unreadable-{what}", error.where, error.found, error.remedy)


def _size_mismatch(
    case: Case, what: str, source: Source | None, image: NDArray[np.uint8], mask: MaskFile
) -> Problem:
    height, width = image.shape[:2]
    mask_height, mask_width = mask.values.shape
    found = f"the {what} is {mask_width} x {mask_height} pixels, the image {width} x {height}"
    remedy = f"Export the {what} at the size of its image"
    turned = (mask_height, mask_width) == (width, height)
    if turned and isinstance(case.image, File) and is_rotated(case.image.path):
        found += f"; the {what} fits the image before its EXIF rotation"
        remedy = f"Turn the {what} as the image's EXIF orientation says, or remove that tag"
    return Problem("error", "size-mismatch", str(source), found, remedy)


def _labels(dataset: Dataset, looks: list[_Look]) -> tuple[LabelMap | None, list[Problem]]:
    """The declared label map, or one inferred from the masks of the commoner kind."""
    if dataset.labels is not None:
        return dataset.labels, []
    masks = {seen.case.id: seen.mask for seen in _not_for_testing(looks) if seen.mask is not None}
    lossy = 2 * sum(mask.lossy for mask in masks.values()) > len(masks)
    rgb = any(mask.rgb for mask in masks.values())
    counts: Mapping[str, Mapping[int, int]] = {
        case_id: _histogram(mask, rgb=rgb)
        for case_id, mask in masks.items()
        if rgb or mask.lossy == lossy
    }
    try:
        return infer_label_map(counts, lossy, rgb, where=dataset.root), []
    except DataError as error:
        return None, [Problem("error", "labels", error.where, error.found, error.remedy)]


def _histogram(mask: _Mask, *, rgb: bool) -> dict[int, int]:
    values = mask.values if mask.rgb or not rgb else mask.values * 0x010101
    return dict(zip(values.tolist(), mask.counts.tolist(), strict=True))


def _class_pixels(
    seen: _Look, labels: LabelMap | None, snap: Snap
) -> tuple[tuple[int, ...], list[Problem]]:
    """Pixels of each class, or the problem with the mask's values."""
    if seen.mask is None or labels is None:
        return (), []
    indices = classify(seen.mask.values, labels, snap=should_snap(snap, lossy=seen.mask.lossy))
    unknown = indices < 0
    if unknown.any():
        values, counts = seen.mask.values[unknown], seen.mask.counts[unknown]
        found, remedy = describe_unexpected(
            dict(zip(values.tolist(), counts.tolist(), strict=True)), labels
        )
        return (), [Problem("error", "unexpected-values", str(seen.case.mask), found, remedy)]
    pixels = np.zeros(len(labels.labels), np.int64)
    known = indices != IGNORE
    np.add.at(pixels, indices[known], seen.mask.counts[known])
    return tuple(pixels.tolist()), []


def _facts(seen: _Look, pixels: tuple[int, ...]) -> CaseFacts:
    return CaseFacts(
        seen.case.id,
        seen.image_sha256,
        None if seen.mask is None else seen.mask.sha256,
        seen.content,
        *seen.size,
        pixels,
        seen.mean,
        seen.deviation,
    )


def _lossy_masks(
    dataset: Dataset, looks: list[_Look], labels: LabelMap | None, snap: Snap
) -> Iterator[Problem]:
    lossy = [seen for seen in looks if seen.mask is not None and seen.mask.lossy]
    if not lossy or labels is None or snap == "never":
        return
    levels = ", ".join(f"#{v:06x}" if labels.rgb else str(v) for v in labels.values)
    yield Problem(
        "warning",
        "lossy-masks",
        str(dataset.root),
        f"{len(lossy)} masks are JPEG or lossy WebP: their values were snapped to {{{levels}}}",
        "Outlines may be off by a pixel; use the original masks if they exist",
    )


def _suspicious_masks(
    dataset: Dataset, facts: list[CaseFacts], labels: LabelMap | None
) -> Iterator[Problem]:
    empty = [item.id for item in facts if item.is_empty]
    full = [item.id for item in facts if item.is_all_foreground]
    if empty:
        yield Problem(
            "warning",
            "empty-mask",
            str(dataset.root),
            f"{len(empty)} masks are empty: {_shorten(empty)}",
            "Fine if nothing is to be seen there; otherwise label or remove them",
        )
    if full:
        yield Problem(
            "warning",
            "all-foreground",
            str(dataset.root),
            f"{len(full)} masks have no background: {_shorten(full)}",
            "Check that the mask is not inverted or missing",
        )
    labelled = [item.pixels for item in facts if item.pixels]
    if labels is None or not labelled:
        return
    for index, label in enumerate(labels.foreground, start=1):
        if not any(pixels[index] for pixels in labelled):
            yield Problem(
                "warning",
                "absent-class",
                str(dataset.root),
                f"no mask shows '{label.name}' (value {label.value})",
                "It cannot be learnt; remove it from labels.json or correct its value",
            )


def _repeated_images(looks: list[_Look]) -> Iterator[Problem]:
    same: dict[str, list[_Look]] = defaultdict(list)
    for seen in looks:
        if seen.content:
            same[seen.content].append(seen)
    for group in same.values():
        if len(group) < 2:
            continue
        first, others = group[0].case, ", ".join(seen.case.id for seen in group[1:])
        masks = {seen.mask.content for seen in group if seen.mask is not None}
        if len(masks) > 1:
            yield Problem(
                "warning",
                "same-image-different-masks",
                first.id,
                f"has the same pixels as {others}, but another mask",
                "Decide which mask is right and remove the others",
            )
        else:
            yield Problem(
                "warning",
                "duplicate-image",
                first.id,
                f"has the same pixels as {others}",
                "Remove the copies; until then they stay on one side of the split",
            )
        parts = {seen.case.split for seen in group if seen.case.split is not None}
        if len(parts) > 1:
            yield Problem(
                "error",
                "image-in-two-splits",
                first.id,
                f"the same image as {others} is in {' and '.join(sorted(parts))}",
                "Remove the copy from one part: scores would be too good",
            )


def _near_pairs(looks: list[_Look]) -> tuple[tuple[NearPair, ...], float]:
    """Pairs of nearly equal images, and the distance up to which they are that."""
    first_of: dict[str, _Look] = {}
    for seen in looks:
        if seen.content and seen.thumbnail is not None:
            first_of.setdefault(seen.content, seen)
    distinct = list(first_of.values())
    if len(distinct) < 2:
        return (), duplicates.NEAREST
    found = duplicates.find_near(
        np.stack([seen.thumbnail for seen in distinct if seen.thumbnail is not None]),
        [seen.case.patient for seen in distinct],
    )
    return tuple(
        NearPair(distinct[one].case.id, distinct[two].case.id, round(distance, 4))
        for one, two, distance in found.matches
    ), found.limit


def _near_duplicates(cases: Iterable[Case], near: tuple[NearPair, ...]) -> Iterator[Problem]:
    """One problem a cluster of images that are alike without being equal."""
    split = {case.id: case.split for case in cases}
    names = {pair.first: pair.first for pair in near} | {pair.second: pair.second for pair in near}
    clusters: dict[str, list[str]] = defaultdict(list)
    for case, content in clusters_of(names, near).items():
        clusters[content].append(case)
    nearest = {pair.first: pair.distance for pair in reversed(near)}
    nearest |= {pair.second: pair.distance for pair in reversed(near)}
    for members in clusters.values():
        first, *others = sorted(members)
        distance = min(nearest[member] for member in members)
        yield Problem(
            "warning",
            "near-duplicate",
            first,
            f"shows almost the same as {_shorten(others)} (distance {distance:.2f})",
            "Remove the copies, or name their patient; until then they stay on one side of the "
            "split",
        )
        parts = {part for member in members if (part := split[member]) is not None}
        if len(parts) > 1:
            yield Problem(
                "error",
                "near-duplicate-in-two-splits",
                first,
                f"almost the same image as {_shorten(others)} is in {' and '.join(sorted(parts))}",
                "Move all of them to one part: scores would be too good",
            )


def _unlike_others(dataset: Dataset, outliers: Iterable[Outliers]) -> Iterator[Problem]:
    remedies = {
        "outlier-size": "Check that they belong here: images are squashed to one size",
        "outlier-intensity": "Check their exposure, and that they are what they should be",
        "outlier-label": "Check that their masks are whole, and theirs",
    }
    for far in outliers:
        cases = [f"{case} ({value})" for case, value in far.cases.items()]
        yield Problem(
            "warning",
            far.kind,
            str(dataset.root),
            f"{plural(len(cases), 'case')} far from the usual {far.what} ({far.usual}): "
            f"{_shorten(cases)}",
            remedies[far.kind],
        )


def _divided_patients(cases: Iterable[Case]) -> Iterator[Problem]:
    parts: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        if case.patient is not None and case.split is not None:
            parts[case.patient].add(case.split)
    for patient, names in sorted(parts.items()):
        if len(names) > 1:
            yield Problem(
                "error",
                "patient-in-two-splits",
                patient,
                f"has cases in {' and '.join(sorted(names))}",
                "Move all cases of a patient to one part: scores would be too good",
            )


def _shorten(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")
