"""Which prediction belongs to which truth, and what the values of each mean."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import Label, LabelMap
from medseg.data.groups import check_attribute, group_of, marked_attributes
from medseg.data.io import MAX_PIXELS, MaskFile, is_image_file, stem
from medseg.data.labels import (
    Snap,
    count_values,
    encode_mask,
    infer_label_map,
    read_classes,
    stored_values,
)
from medseg.data.layouts import is_dataset, open_dataset, patients_in
from medseg.data.layouts.folders import MASK_FOLDERS, MASK_SUFFIXES
from medseg.data.layouts.names import labels_beside, nfc
from medseg.data.slices import Stack, gather, open_slices
from medseg.data.source import Source
from medseg.errors import DataError, plural
from medseg.metrics.workers import Map, in_order

PREDICTIONS_FILE = "predictions.json"
"""Beside predicted masks: an object whose key ``labels`` has the form of a ``labels.json``."""

OVERLAY_FOLDER = "overlay"
"""Where ``medseg predict`` puts pictures of its masks; beside a ``predictions.json`` not read."""


@dataclass(frozen=True, slots=True)
class Truth:
    """A true mask; that of a volume is one.

    Attributes:
        case: the id of the case or volume.
        names: what its prediction may be called, without suffix: the id and the mask's own name.
        mask: where the mask lies; a :class:`Stack` for a volume, and so are the others.
        image: the image, when the truth is a dataset.
        field_of_view: a mask that is 0 where nothing is scored, or None.
        patient: whose it is, or None when unknown.
        groups: attribute to the group it belongs to, where that is known.
    """

    case: str
    names: tuple[str, ...]
    mask: Source
    image: Source | None = None
    field_of_view: Source | None = None
    patient: str | None = None
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """How true masks are read; as in the recipe of the model that is scored.

    Attributes:
        snap: move unexpected values to the nearest class; ``auto`` does so in lossy files only.
        max_pixels: larger masks are refused.
    """

    snap: Snap = "auto"
    max_pixels: int = MAX_PIXELS


DEFAULT_READING = Reading()


def find_truths(
    path: Path,
    only: Collection[str] | None = None,
    *,
    layout: str = "auto",
    group_pattern: str | None = None,
    pictures: str | None = None,
    attributes: Sequence[str] = (),
) -> tuple[list[Truth], list[Source], LabelMap | None]:
    """List the true masks of a dataset or of a folder of masks.

    Args:
        path: what `medseg.data.layouts.open_dataset` reads, or a folder of masks.
        only: the case ids wanted, of volumes or of their slices; None for all.
        layout: how a dataset lies on disk, where it cannot be recognised.
        group_pattern: a regular expression that finds the patient in a case id.
        pictures: which pictures are slices of volumes, as in
            :func:`medseg.data.slices.gather`.
        attributes: columns of a dataset that tell groups, besides those that are named as such
            (:func:`medseg.data.groups.marked_attributes`).

    Returns:
        The truths sorted by case; the masks that show what values there are (all, whatever
        ``only`` says); and the declared label map or None.

    Raises:
        DataError: no masks, a dataset with errors, two masks of one name, an id of ``only`` or
            one of ``attributes`` that does not exist.
    """
    members: dict[str, set[str]] = {}
    if layout == "auto" and path.exists() and not is_dataset(path):
        if attributes:
            raise DataError(
                path, "a folder of masks tells no groups", "Give a dataset with a manifest"
            )
        truths, labels = _masks_in(path), _labels_near(path)
        if group_pattern is not None:
            patients = patients_in([truth.case for truth in truths], group_pattern)
            truths = [
                replace(truth, patient=patient)
                for truth, patient in zip(truths, patients, strict=True)
            ]
    else:
        dataset = open_dataset(path, layout=layout, group_pattern=group_pattern)
        for problem in dataset.problems:
            if problem.severity == "error":
                raise DataError(problem.where, problem.found, problem.remedy)
        labelled = [case for case in dataset.cases if case.mask is not None]
        for attribute in attributes:
            check_attribute(dataset.cases, attribute, path)
        compared = dict.fromkeys([*marked_attributes(dataset.cases), *attributes])
        truths = []
        for whole in gather(labelled, pictures=pictures):
            if whole.mask is not None:
                names = (whole.id, _beside(whole.id, whole.mask.path))
                patient = whole.cases[0].patient
                found = {name: group_of(whole.cases, name) for name in compared}
                groups = {name: group for name, group in found.items() if group is not None}
                view = whole.field_of_view
                truths.append(
                    Truth(whole.id, names, whole.mask, whole.image, view, patient, groups)
                )
                members[whole.id] = {case.id for case in whole.cases}
        labels = dataset.labels
    if not truths:
        raise DataError(path, "holds no masks", "Give a dataset, or a folder of mask images")
    masks = [truth.mask for truth in truths]
    if only is not None:
        known = {case for truth in truths for case in (truth.case, *members.get(truth.case, ()))}
        unknown = sorted(set(only) - known)
        if unknown:
            raise DataError(
                path, f"has no masks for {_some(unknown)}", "Choose among the labelled cases"
            )
        wanted = set(only)
        truths = [t for t in truths if wanted & {t.case, *members.get(t.case, ())}]
    return truths, masks, labels


def pair(truths: Sequence[Truth], folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Find each truth's prediction among the images below ``folder``.

    Names are compared without suffix and in composed Unicode form, most exact first: the path
    below the folder; the path without a mask suffix such as ``_mask`` on either side; the bare
    file name, where it is the only one of its name on both sides.

    Returns:
        Case id to prediction, for the truths that have one; and the names of the predictions that
        belong to no truth.

    Raises:
        DataError: no such folder, two files for one case, or not a single pair.
    """
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(folder, found, "Name the folder of predicted masks")
    drawn = folder / OVERLAY_FOLDER if (folder / PREDICTIONS_FILE).exists() else None
    free = {
        file: _stem(file, folder)
        for file in _image_files(folder)
        if drawn is None or not file.is_relative_to(drawn)
    }
    paired: dict[str, Path] = {}
    for forms in (_exact, _bare, _last):
        offered: dict[str, list[Path]] = {}
        for file, name in free.items():
            for form in forms(name):
                offered.setdefault(form, []).append(file)
        waiting = [truth for truth in truths if truth.case not in paired]
        wanted = {
            truth.case: {form for name in truth.names for form in forms(name)} for truth in waiting
        }
        claims = Counter(form for names in wanted.values() for form in names)
        for truth in waiting:
            files = {file for form in wanted[truth.case] for file in offered.get(form, ())}
            files &= free.keys()
            if forms is _last and (
                len(files) > 1 or any(claims[form] > 1 for form in wanted[truth.case])
            ):
                continue
            if len(files) > 1:
                raise DataError(
                    folder,
                    f"{_some(sorted(free[file] + file.suffix for file in files))} are all "
                    f"predictions for the case '{truth.case}'",
                    "Keep one prediction for each case",
                )
            for file in files:
                paired[truth.case] = file
                del free[file]
    extra = sorted(name + file.suffix for file, name in free.items())
    if not paired:
        raise DataError(
            folder,
            f"no prediction has the name of a case: {plural(len(truths), 'case')} "
            f"({_some([truth.case for truth in truths])}) against "
            + (f"{plural(len(extra), 'prediction')} ({_some(extra)})" if extra else "no images"),
            "Name each prediction like its image or its true mask",
        )
    return paired, extra


def declared_by(predictions: Path) -> LabelMap | None:
    """The label map in a folder's ``predictions.json``, else its ``labels.json``, else None.

    Raises:
        DataError: the file is malformed.
    """
    path = predictions / PREDICTIONS_FILE
    if not path.exists():
        return labels_beside(predictions)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["labels"].items()
        coded = [(str(name), *_stored_value(value)) for name, value in entries]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(
            path,
            f"declares no usable 'labels' ({type(error).__name__}: {error})",
            'Write {"labels": {"background": 0, "nucleus": 255}} or remove the file',
        ) from error
    labels = tuple(Label(name, value) for name, value, _ in coded)
    kinds = {rgb for *_, rgb in coded}
    if len(labels) < 2 or len(kinds) > 1 or len({label.value for label in labels}) < len(labels):
        raise DataError(
            path, f"its labels are {dict(entries)}", "Give two or more classes different values"
        )
    return LabelMap(labels, rgb=kinds.pop())


def infer_labels(
    masks: Sequence[Source], where: Path, reading: Reading, mapped: Map = in_order
) -> LabelMap:
    """Infer the classes from mask files, reading each once; ``mapped`` says how, else in threads.

    Raises:
        DataError: a mask cannot be read, or `medseg.data.labels.infer_label_map` finds no classes.
    """
    seen = list(mapped(partial(_histogram, reading), masks))
    lossy = 2 * sum(is_lossy for *_, is_lossy in seen) > len(seen)
    rgb = any(is_rgb for _, _, is_rgb, _ in seen)
    counts = {path: histogram for path, histogram, _, is_lossy in seen if rgb or is_lossy == lossy}
    return infer_label_map(counts, lossy, rgb, where=where)


def agree(
    truth: LabelMap, inferred: bool, predicted: LabelMap | None, where: Path
) -> tuple[LabelMap, LabelMap | None]:
    """Bring the label maps of both sides to the same classes in the same order.

    An inferred map knows no names and may lack classes that no true mask happens to show, so a
    map declared by the predictions completes it: where both are binary, or where every value of
    the truth is declared.

    Args:
        truth: of the true masks.
        inferred: whether it was inferred from them rather than declared.
        predicted: declared by the predictions, or None.
        where: the predictions' folder, for errors.

    Returns:
        The map of the truth, and of the predictions (None when they declared none).

    Raises:
        DataError: the classes differ.
    """
    if predicted is None:
        return truth, None
    if inferred and truth.names != predicted.names:
        if len(truth.labels) == len(predicted.labels) == 2:
            names = zip(predicted.names, truth.values, strict=True)
            return replace(truth, labels=tuple(Label(*pair) for pair in names)), predicted
        if set(truth.values) <= set(predicted.values) and not predicted.rgb:
            return predicted, predicted
    by_name = {label.name: label for label in predicted.labels}
    if set(by_name) != set(truth.names) or truth.names[0] != predicted.names[0]:
        raise DataError(
            where,
            f"the predictions have the classes {', '.join(predicted.names)}, the truth "
            f"{', '.join(truth.names)}",
            "Both must have the same classes: name them in labels.json, or evaluate a model that "
            "was trained for these classes",
        )
    return truth, LabelMap(tuple(by_name[name] for name in truth.names), predicted.rgb)


def read_truth(
    mask: Source, labels: LabelMap, reading: Reading, field_of_view: Source | None = None
) -> NDArray[np.uint8]:
    """A true mask as (H, W) class indices, of a volume (S, H, W), ``IGNORE`` where nothing is
    scored.

    Raises:
        DataError: the file cannot be read or holds values that no class has.
    """
    if isinstance(mask, Stack):
        # Slice by slice, because values on their way to classes take eight bytes each.
        views = (
            field_of_view.slices if isinstance(field_of_view, Stack) else [None] * len(mask.slices)
        )
        return np.stack(
            [
                read_truth(each, labels, reading, view)
                for each, view in zip(mask.slices, views, strict=True)
            ]
        )
    return read_classes(
        mask,
        labels,
        snap=reading.snap,
        field_of_view=field_of_view,
        max_pixels=reading.max_pixels,
    )


def encode_prediction(
    mask: MaskFile, labels: LabelMap, declared: LabelMap | None, where: object
) -> NDArray[np.uint8]:
    """A predicted mask as (H, W) class indices.

    Without a declared label map a prediction is read with the truth's; in a binary task whose
    background is 0, the foreground may also be stored as 1 or as 255.

    Raises:
        DataError: values that no class has.
    """
    return encode_mask(mask, declared or _binary_encoding(mask, labels), where=where)


def _masks_in(folder: Path) -> list[Truth]:
    if not folder.is_dir():
        raise DataError(
            folder, "is neither a folder nor a manifest", "Give a dataset or a folder of masks"
        )
    by_name: dict[str, Path] = {}
    for file in _image_files(folder):
        name = _stem(file, folder)
        if name in by_name:
            raise DataError(
                folder,
                f"{by_name[name].name} and {file.name} have the same name",
                "Keep one mask for each case",
            )
        by_name[name] = file
    return [Truth(name, (name,), open_slices(file)) for name, file in sorted(by_name.items())]


def _labels_near(folder: Path) -> LabelMap | None:
    own = labels_beside(folder)
    if own is None and folder.resolve().name.lower() in MASK_FOLDERS:
        return labels_beside(folder.resolve().parent)
    return own


def _image_files(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.rglob("*")
        if is_image_file(file)
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def _stem(file: Path, folder: Path) -> str:
    return nfc(stem(file.relative_to(folder).as_posix()))


def _beside(case: str, mask: Path) -> str:
    """The mask's own name, in the folder of the case's id."""
    return "/".join([*case.split("/")[:-1], nfc(stem(mask.name))])


def _exact(name: str) -> set[str]:
    return {name}


def _bare(name: str) -> set[str]:
    endings = [ending for ending in MASK_SUFFIXES if name.lower().endswith(ending)]
    return {name, *(name[: -len(ending)] for ending in endings)}


def _last(name: str) -> set[str]:
    return {form.rsplit("/", 1)[-1] for form in _bare(name)}


def _stored_value(value: Any) -> tuple[int, bool]:
    """What a mask stores, and whether it is a colour."""
    if isinstance(value, str):
        return int(value.removeprefix("#"), 16), True
    if isinstance(value, list):
        red, green, blue = (int(part) for part in value)
        return red << 16 | green << 8 | blue, True
    return int(value), False


def _histogram(reading: Reading, source: Source) -> tuple[str, dict[int, int], bool, bool]:
    counts: Counter[int] = Counter()
    rgb = lossy = False
    for each in source.slices if isinstance(source, Stack) else [source]:
        mask = each.read_mask(max_pixels=reading.max_pixels)
        counts.update(count_values(mask))
        rgb, lossy = rgb or mask.rgb, lossy or mask.lossy
    return str(source), dict(counts), rgb, lossy


def _binary_encoding(mask: MaskFile, labels: LabelMap) -> LabelMap:
    background, foreground = labels.labels[0], labels.labels[1]
    if len(labels.labels) > 2 or background.value != 0 or mask.rgb:
        return labels
    others = [
        LabelMap((background, Label(foreground.name, value)))
        for value in ((255,) if mask.lossy else (1, 255))
    ]
    if mask.lossy:
        return labels if labels.rgb or foreground.value >= 128 else others[0]
    for known in (labels, *others):
        if set(np.unique(stored_values(mask, rgb=known.rgb)).tolist()) <= set(known.values):
            return known
    return labels


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(f"'{name}'" for name in names[:most]) + (" ..." if len(names) > most else "")
