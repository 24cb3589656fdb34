"""nnU-Net v2's raw dataset, as :mod:`medseg.data.layouts.nnunet` reads it.

All pictures are PNG: grey ones, one file of three channels for colour (as nnU-Net's reader of
natural images takes them), one file a channel otherwise. Masks hold the classes' indices, and the
index after the last where the pixel is ignored or outside of the field of view. What nnU-Net has
no place for is under ``medseg`` in ``dataset.json``: patients, attributes and the cases' own ids.

Source: https://github.com/MIC-DKFZ/nnUNet, documentation/dataset_format.md and
documentation/region_based_training.md.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from medseg.data.case import IGNORE, LabelMap, Region, Split
from medseg.data.convert.items import (
    Item,
    Job,
    by_part,
    note_renamed,
    numbered,
    plain_names,
    save_png,
    write_json,
)
from medseg.data.labels import read_classes
from medseg.data.source import Channels, File, Source

_ENDING = ".png"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def write(job: Job) -> None:
    """Write the items; see :class:`medseg.data.convert.Target`."""
    split = job.split_of()
    _leave_out_unlabelled(job, split)
    names = plain_names(item.id for item in job.items)
    note_renamed(job, names, "dataset.json has both names")
    ignores = job.labels.ignore is not None or any(item.case.field_of_view for item in job.items)
    in_files = all(isinstance(item.case.image, Channels) for item in job.items)
    channels = job.survey.channels

    def one(item: Item) -> None:
        part = "Ts" if split.get(item.id) == "test" else "Tr"
        stem = job.folder / f"images{part}" / names[item.id]
        if isinstance(item.case.image, Channels) and in_files:
            for index, source in enumerate(item.case.image.parts):
                _write_image(job, source, numbered(stem, index), 1)
        elif channels in (1, 3):
            _write_image(job, item.case.image, numbered(stem, 0), channels)
        else:
            image = item.case.image.read_image()
            for index in range(channels):
                save_png(_png(numbered(stem, index)), image[..., index])
                job.count(copied=False)
        if item.case.mask is not None:
            classes = read_classes(
                item.case.mask, job.labels, field_of_view=item.case.field_of_view
            )
            classes[classes == IGNORE] = len(job.labels.labels)
            save_png(_png(job.folder / f"labels{part}" / names[item.id]), classes)

    job.each(one)
    training = [item for item in job.items if split.get(item.id) != "test"]
    declaration: dict[str, Any] = {
        "channel_names": _channel_names(channels, in_files=in_files),
        "labels": _labels(job.labels, ignores=ignores),
        "numTraining": len(training),
        "file_ending": _ENDING,
    }
    if job.labels.regions:
        declaration["regions_class_order"] = _class_order(job.labels)
    declaration["medseg"] = {
        "ids": {names[item.id]: item.id for item in job.items if names[item.id] != item.id},
        "patients": {names[item.id]: item.case.patient for item in job.items if item.case.patient},
        "attributes": {
            names[item.id]: dict(item.case.attributes) for item in job.items if item.case.attributes
        },
    }
    write_json(job.folder / "dataset.json", declaration)
    folds = _folds(job, split, names)
    if folds:
        write_json(job.folder / "splits_final.json", folds)


def _leave_out_unlabelled(job: Job, split: Mapping[str, Split]) -> None:
    kept = [
        item for item in job.items if item.case.mask is not None or split.get(item.id) == "test"
    ]
    if len(kept) < len(job.items):
        job.leave_out(kept, "nnU-Net has no place for unlabelled training cases")


def _write_image(job: Job, source: Source, stem: Path, channels: int) -> None:
    if isinstance(source, File) and _is_plain_png(source.file, channels):
        _png(stem).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.file, _png(stem))
        job.count(copied=True)
        return
    image = source.read_image()
    pixels: NDArray[np.uint8] = image[..., 0] if channels == 1 else image
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    save_png(_png(stem), pixels)
    job.count(copied=False)


def _is_plain_png(path: Path, channels: int) -> bool:
    """Whether any reader sees the same pixels in it: no palette, alpha, bits or rotation."""
    with path.open("rb") as file:
        if file.read(len(_SIGNATURE)) != _SIGNATURE:
            return False
        file.seek(0)
        image = PngImageFile(file)
        return (
            image.mode in (("L", "I;16") if channels == 1 else ("RGB",))
            and not image.info.keys() & {"transparency", "exif"}
            and getattr(image, "n_frames", 1) == 1
        )


def _channel_names(channels: int, *, in_files: bool) -> dict[str, str]:
    if channels == 1:
        return {"0": "grey"}
    if channels == 3 and not in_files:
        return {"0": "R", "1": "G", "2": "B"}
    return {str(index): f"channel_{index}" for index in range(channels)}


def _labels(labels: LabelMap, *, ignores: bool) -> dict[str, int | list[int]]:
    declared: dict[str, int | list[int]] = {labels.names[0]: 0}
    if labels.regions:
        for region in _by_size(labels):
            declared[region.name] = list(region.classes)
    else:
        declared |= {name: index for index, name in enumerate(labels.names) if index}
    if ignores:
        declared["ignore"] = len(labels.labels)
    return declared


def _by_size(labels: LabelMap) -> list[Region]:
    # nnU-Net paints regions in this order, so that smaller ones stay visible.
    return sorted(labels.regions, key=lambda region: -len(region.classes))


def _class_order(labels: LabelMap) -> list[int]:
    """For each region the class it is painted with: one that no later region has."""
    regions = _by_size(labels)
    order = []
    for index, region in enumerate(regions):
        later = {number for other in regions[index + 1 :] for number in other.classes}
        own = [number for number in region.classes if number not in later]
        order.append((own or list(region.classes))[0])
    return order


def _folds(
    job: Job, split: Mapping[str, Split], names: Mapping[str, str]
) -> list[dict[str, list[str]]]:
    """Of ``splits_final.json``; none when nothing was published."""
    published = job.survey.dataset.folds
    if len(published) < 2:
        published = (split,) if "val" in split.values() else ()
    return [
        {
            part: [names[case_id] for case_id in ids if case_id in names]
            for part, ids in by_part(dict(fold)).items()
            if part != "test"
        }
        for fold in published
    ]


def _png(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}{_ENDING}")
