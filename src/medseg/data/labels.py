"""What mask values mean: declaring, inferring and applying label maps."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import IGNORE, Label, LabelMap
from medseg.data.io.pixels import MAX_PIXELS, MaskFile, unpack_colours
from medseg.data.source import Source
from medseg.errors import DataError

LABELS_FILE = "labels.json"
IGNORED = "ignore"
"""The name in a label file of the value of pixels that nothing is known of."""

MAX_INFERRED_CLASSES = 32
MAX_CLASSES = 255
_FEW_MASKS = 10
_FEW_CLASSES = 8
Snap = Literal["auto", "always", "never"]

_EXAMPLE = '{"background": 0, "nucleus": 255} or {"background": [0, 0, 0], "tumour": [255, 0, 0]}'
_GREY_TO_COLOUR = 0x010101

# JPEG shifts a flat level by at most _SHIFT grey values and piles up ringing, clipped to 0 or 255,
# within _RINGING of it.
_SHIFT = 12
_RINGING = 20


def read_labels_file(path: Path) -> LabelMap:
    """Read a ``labels.json``: class names with the grey value or colour that masks store.

    The background is the class named ``background``, else the one stored as 0 or black; it
    becomes class 0 and the others follow in the order of the file. Colours are ``[r, g, b]`` or
    ``"#rrggbb"``. The name ``ignore`` is no class: pixels of its value are neither learnt from nor
    scored.

    Raises:
        DataError: the file is missing or malformed, or a value is out of range or used twice.
    """
    try:
        pairs = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=list)
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "Check the name") from error
    except ValueError as error:
        raise DataError(path, f"is not valid JSON ({error})", f"Write e.g. {_EXAMPLE}") from error
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise DataError(path, "is not an object of names and values", f"Write e.g. {_EXAMPLE}")
    coded = [(name.strip(), *_parse_value(path, name, value)) for name, value in pairs]
    classes = [item for item in coded if item[0].lower() != IGNORED]
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise DataError(
            path, f"declares {len(classes)} classes", f"Declare 2 to {MAX_CLASSES}, e.g. {_EXAMPLE}"
        )
    if len({rgb for _, _, rgb in coded}) > 1:
        raise DataError(path, "mixes grey values and colours", "Use one kind for all classes")
    _check_unique(path, [Label(name, value) for name, value, _ in coded])
    labels = [Label(name, value) for name, value, _ in classes]
    ignored = [value for name, value, _ in coded if name.lower() == IGNORED]
    return LabelMap(
        tuple(_background_first(path, labels)),
        rgb=coded[0][2],
        ignore=ignored[0] if ignored else None,
    )


def _parse_value(path: Path, name: str, value: Any) -> tuple[int, bool]:
    """The stored value, and whether it is a colour."""
    if not name.strip():
        raise DataError(path, "a class has an empty name", "Name every class")
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65535:
        return value, False
    if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        return int(value[1:], 16), True
    if (
        isinstance(value, list)
        and len(value) == 3
        and all(type(part) is int and 0 <= part <= 255 for part in value)
    ):
        return int(value[0]) << 16 | int(value[1]) << 8 | int(value[2]), True
    raise DataError(
        path,
        f"'{name}' has the value {json.dumps(value)}",
        'Allowed: a whole number in 0..65535, [r, g, b] with each in 0..255, or "#rrggbb"',
    )


def _check_unique(path: Path, labels: list[Label]) -> None:
    names = Counter(label.name for label in labels)
    for label in labels:
        if names[label.name] > 1:
            raise DataError(path, f"'{label.name}' is declared twice", "Give each class one value")
    by_value: dict[int, str] = {}
    for label in labels:
        if label.value in by_value:
            raise DataError(
                path,
                f"'{by_value[label.value]}' and '{label.name}' have the same value",
                "Give each class its own value",
            )
        by_value[label.value] = label.name


def _background_first(path: Path, labels: list[Label]) -> list[Label]:
    named = [label for label in labels if label.name.lower() == "background"]
    zero = [label for label in labels if label.value == 0]
    if not named and not zero:
        raise DataError(
            path,
            "no class is the background",
            "Call one class 'background', or give one the value 0 (black)",
        )
    background = (named or zero)[0]
    return [background, *(label for label in labels if label is not background)]


def stored_values(mask: MaskFile, *, rgb: bool) -> NDArray[np.int32]:
    """A mask's values (H, W) in the terms of a label map.

    In an RGB-coded dataset, black-and-white files read as grey and palette files read as indices
    are turned back into colours; 16-bit greys have none and become -1.
    """
    if mask.rgb or not rgb:
        return mask.values
    if mask.palette is not None:
        return mask.palette[np.minimum(mask.values, len(mask.palette) - 1)]
    return np.where(mask.values <= 255, mask.values * _GREY_TO_COLOUR, -1).astype(np.int32)


def count_values(mask: MaskFile) -> dict[int, int]:
    """Pixels per stored value."""
    if mask.values.max() <= 65535:
        counts = np.bincount(mask.values.ravel())
        values = np.flatnonzero(counts)
        counts = counts[values]
    else:
        values, counts = np.unique(mask.values, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def infer_label_map(
    counts: Mapping[str, Mapping[int, int]],
    lossy: bool = False,
    rgb: bool = False,
    *,
    where: object = "masks",
) -> LabelMap:
    """Find the classes of masks that come without a ``labels.json``.

    In lossless masks a value is a class when it occurs in at least 1 % of the masks and in no
    fewer than two; with fewer than ten masks every value is, as long as that makes no more than
    eight classes. In lossy masks the classes are the
    sharp peaks of the pooled histogram. Two classes are called background and foreground, more
    are called background, class_1, class_2 ...

    Args:
        counts: for each case, pixels per value (of :func:`count_values`).
        lossy: whether the masks went through lossy compression.
        rgb: whether they hold colours, which always need a ``labels.json``.
        where: what an error names, e.g. the dataset's folder.

    Raises:
        DataError: colours, only one value, no 0, or more than 32 classes.
    """
    pooled: Counter[int] = Counter()
    for histogram in counts.values():
        pooled.update(histogram)
    if not pooled:
        raise DataError(where, "there are no masks", "Add a mask for at least two images")
    if rgb:
        raise DataError(
            where,
            f"the masks hold colours: {_list_colours(pooled)}",
            f"Name them in {LABELS_FILE}, e.g. {_labels_json(pooled, rgb=True)}",
        )
    values = _peaks(pooled) if lossy else _recurring_values(counts)
    if lossy and len(values) < 2 and max(pooled) > _RINGING:
        raise DataError(
            where,
            "the masks are JPEG or lossy WebP and show no clear grey levels",
            f"Declare the levels in {LABELS_FILE}, e.g. {_EXAMPLE}",
        )
    if len(values) < 2:
        only = values[0] if values else 0
        raise DataError(
            where,
            "all masks are empty" if only == 0 else f"all masks hold only the value {only}",
            "Add masks that show something, or check that these are the right files",
        )
    if len(values) > MAX_INFERRED_CLASSES:
        raise DataError(
            where,
            f"the masks hold {len(values)} different values ({_first(values)})",
            f"If these are object numbers, turn them into classes or evaluate with --instances; if "
            f"they are classes, name them in {LABELS_FILE}",
        )
    if values[0] != 0:
        raise DataError(
            where,
            f"the masks hold {_first(values)} but no 0, so the background is unknown",
            f"Name the values in {LABELS_FILE}, e.g. {_labels_json(pooled, rgb=False)}",
        )
    if len(values) == 2:
        return LabelMap((Label("background", 0), Label("foreground", values[1])))
    classes = [Label(f"class_{index}", value) for index, value in enumerate(values[1:], start=1)]
    return LabelMap((Label("background", 0), *classes))


def _recurring_values(counts: Mapping[str, Mapping[int, int]]) -> list[int]:
    occurrence = Counter(value for histogram in counts.values() for value in histogram)
    needed = max(2, 0.01 * len(counts))
    recurring = sorted(value for value, masks in occurrence.items() if masks >= needed)
    everything = sorted(occurrence)
    few_masks = len(counts) < _FEW_MASKS
    if few_masks and (len(everything) <= _FEW_CLASSES or len(recurring) < 2):
        return everything
    return recurring


def _peaks(pooled: Mapping[int, int]) -> list[int]:
    """The grey levels that a lossy mask had before compression.

    Flat regions keep their level to within a value or two while ringing spreads thinly, so a
    level is the tallest value within reach of ringing, stands five times above what surrounds it
    and, with its nearest neighbours, covers at least 0.05 % of the pixels. The darkest and
    brightest levels go to 0 and 255 when they are that near.
    """
    histogram = np.zeros(256 + 2 * _RINGING)
    for value, count in pooled.items():
        histogram[min(value, 255) + _RINGING] += count
    found = []
    for value in range(256):
        window = histogram[value : value + 2 * _RINGING + 1]
        core = window[_RINGING - 3 : _RINGING + 4].sum()
        inside = min(value, _RINGING) + min(255 - value, _RINGING) - 6
        surroundings = (window.sum() - core) / max(inside, 1)
        peak = window[_RINGING]
        stands_out = window.argmax() == _RINGING and peak > 5 * surroundings
        if stands_out and core >= 0.0005 * histogram.sum():
            found.append(value)
    snapped = {0 if v <= _SHIFT else 255 if v >= 255 - _SHIFT else v for v in found}
    return sorted(snapped)


def classify(values: NDArray[Any], labels: LabelMap, *, snap: bool) -> NDArray[np.int16]:
    """The class index of each stored value, ``IGNORE`` where it is the ignored one, -1 where no
    class has it.

    Args:
        values: any shape, in the terms of ``labels`` (see :func:`stored_values`).
        labels: the classes.
        snap: take the class with the nearest value, or the nearest colour, instead of -1.
    """
    ignored = () if labels.ignore is None else (labels.ignore,)
    known = np.array((*labels.values, *ignored))
    index_of = np.array((*range(len(labels.labels)), *(IGNORE for _ in ignored)))
    order = index_of[np.argsort(known)]
    ordered = np.sort(known)
    if not snap:
        place = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
        return np.where(ordered[place] == values, order[place], -1).astype(np.int16)
    if not labels.rgb:
        halfway = (ordered[:-1] + ordered[1:]) / 2
        return order[np.searchsorted(halfway, values)].astype(np.int16)
    colours, inverse = np.unique(values, return_inverse=True)
    wanted = unpack_colours(known).astype(np.int32)
    nearest = np.empty(len(colours), np.int16)
    squared = np.full(len(colours), np.iinfo(np.int32).max)
    for index, colour in zip(index_of.tolist(), wanted, strict=True):
        distance = ((unpack_colours(colours).astype(np.int32) - colour) ** 2).sum(axis=1)
        closer = distance < squared
        nearest[closer], squared[closer] = index, distance[closer]
    return nearest[inverse].reshape(values.shape)


def encode_mask(
    mask: MaskFile, labels: LabelMap, *, snap: Snap = "auto", where: object = "mask"
) -> NDArray[np.uint8]:
    """Turn stored values into class indices.

    Args:
        mask: what :func:`medseg.data.io.read_mask` returned.
        labels: the classes.
        snap: give values that no class has to the nearest class: ``auto`` does so for lossy
            files only.
        where: what an error names, e.g. the mask's path.

    Returns:
        (H, W) uint8 class indices, ``IGNORE`` where the value is the ignored one.

    Raises:
        DataError: values that no class has.
    """
    values = stored_values(mask, rgb=labels.rgb)
    indices = classify(values, labels, snap=should_snap(snap, lossy=mask.lossy))
    unknown = values[indices < 0]
    if unknown.size:
        found, remedy = describe_unexpected(Counter(unknown.tolist()), labels)
        raise DataError(where, found, remedy)
    return indices.astype(np.uint8)


def read_classes(
    mask: Source,
    labels: LabelMap,
    *,
    snap: Snap = "auto",
    field_of_view: Source | None = None,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """Read a mask as (H, W) class indices, ``IGNORE`` where nothing is known.

    Raises:
        DataError: a file cannot be read, a value that no class has, or a field of view of
            another size.
    """
    file = mask.read_mask(max_pixels=max_pixels)
    classes = encode_mask(file, labels, snap=snap, where=mask)
    if field_of_view is not None:
        view = field_of_view.read_mask(max_pixels=max_pixels)
        if view.values.shape != classes.shape:
            height, width = view.values.shape
            raise DataError(
                field_of_view,
                f"the field of view is {width} x {height} pixels, the mask "
                f"{classes.shape[1]} x {classes.shape[0]}",
                "Both must have the size of the image",
            )
        classes[view.values <= (127 if view.lossy else 0)] = IGNORE
    return classes


def should_snap(snap: Snap, *, lossy: bool) -> bool:
    """Whether values are snapped in a file that is or is not lossy."""
    return snap == "always" or (snap == "auto" and lossy)


def describe_unexpected(unknown: Mapping[int, int], labels: LabelMap) -> tuple[str, str]:
    """What was found and what to do, for values (with their pixel counts) that no class has."""
    pixels = sum(unknown.values())
    rgb = labels.rgb or max(unknown) > 65535
    allowed = ", ".join(_show(value, labels.rgb) for value in labels.values)
    return (
        f"{pixels:,} pixels hold {len(unknown)} unexpected values "
        f"({_first(sorted(unknown), rgb=rgb)}); expected only {allowed}",
        f"Correct the mask, declare the values in {LABELS_FILE}, or snap to the nearest class",
    )


def decode_mask(indices: NDArray[Any], labels: LabelMap) -> NDArray[np.unsignedinteger[Any]]:
    """Turn class indices (H, W) back into what mask files store.

    Returns:
        (H, W) uint8, uint16 when a value exceeds 255, or (H, W, 3) uint8 for RGB-coded labels.

    Raises:
        ValueError: an index that is not a class.
    """
    if indices.size and (indices.min() < 0 or indices.max() >= len(labels.labels)):
        raise ValueError(f"class indices go from {indices.min()} to {indices.max()}")
    values: NDArray[np.int32] = np.array(labels.values, np.int32)[indices]
    if labels.rgb:
        return unpack_colours(values)
    return values.astype(np.uint16 if max(labels.values) > 255 else np.uint8)


def _show(value: int, rgb: bool) -> str:
    return f"#{value:06x}" if rgb else str(value)


def _first(values: list[int], *, rgb: bool = False, most: int = 8) -> str:
    shown = ", ".join(_show(value, rgb) for value in values[:most])
    return f"{shown} ..." if len(values) > most else shown


def _list_colours(pooled: Counter[int]) -> str:
    common = [value for value, _ in pooled.most_common()]
    return _first(common, rgb=True)


def _labels_json(pooled: Counter[int], *, rgb: bool, most: int = 8) -> str:
    """A ``labels.json`` to paste: the commonest values, 0 (or else the commonest) first."""
    common = [value for value, _ in pooled.most_common(most)]
    first = 0 if 0 in pooled else common[0]
    ordered = [first, *(value for value in common if value != first)]
    names = ["background", *(f"class_{index}" for index in range(1, len(ordered)))]
    coded = [unpack_colours(np.array(value)).tolist() if rgb else value for value in ordered]
    return json.dumps(dict(zip(names, coded, strict=True)))
