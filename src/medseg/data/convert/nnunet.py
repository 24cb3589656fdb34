"""nnU-Net v2's raw dataset, as :mod:`medseg.data.layouts.nnunet` reads it.

Pictures are PNG: grey ones, one file of three channels for colour (as nnU-Net's reader of natural
images takes them), one file a channel otherwise. Volumes are NIfTI, one file a channel, unless the
dataset has pictures, too: all files must be of one kind. Masks hold the classes' indices, and the
index after the last where the pixel is ignored or outside of the field of view. What nnU-Net has
no place for is under ``medseg`` in ``dataset.json``: patients, attributes and the cases' own ids.

Source: https://github.com/MIC-DKFZ/nnUNet, documentation/dataset_format.md and
documentation/region_based_training.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from medseg.data.case import IGNORE, Case, LabelMap, Region, Split
from medseg.data.convert import volumes
from medseg.data.convert.items import (
    Item,
    Job,
    by_part,
    collect,
    copy,
    numbered,
    save_png,
    with_suffix,
    write_json,
)
from medseg.data.convert.names import plain_names
from medseg.data.labels import read_classes
from medseg.data.source import Channels, File, Source
from medseg.errors import DataError, plural

VOLUMES = True
_PICTURES, _VOLUMES = ".png", ".nii.gz"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def write(job: Job) -> None:
    """Write the items; see :class:`medseg.data.convert.Target`."""
    are_volumes = all(item.is_volume for item in job.items)
    if not are_volumes and any(item.is_volume for item in job.items):
        job.note(
            "volumes written slice by slice, as there are pictures, too, and nnU-Net takes files "
            "of one kind only: spacing and orientation are lost"
        )
        job.items = collect(job.survey, volumes=False)
    split = job.split_of()
    _leave_out_unlabelled(job, split)
    names = plain_names(item.id for item in job.items)
    in_files = job.survey.channels > 1 and all(
        isinstance(item.case.image, Channels) for item in job.items
    )

    def one(item: Item) -> int:
        part = "Ts" if split.get(item.id) == "test" else "Tr"
        image = job.folder / f"images{part}" / names[item.id]
        mask = job.folder / f"labels{part}" / names[item.id]
        if are_volumes:
            channels = _write_volume(job, item, image, mask)
        else:
            channels = _write_pictures(job, item.case.image, image, in_files=in_files)
            if item.case.mask is not None:
                save_png(with_suffix(mask, _PICTURES), _classes(job, item.case))
        return channels

    counts = dict(zip((item.id for item in job.items), job.each(one), strict=True))
    channels = job.survey.channels if not are_volumes else max(counts.values())
    for case_id, count in counts.items():
        if are_volumes and count != channels:
            raise DataError(
                case_id,
                f"has {plural(count, 'channel')}, others have {channels}",
                "All cases of an nnU-Net dataset must have the same channels",
            )
    _declare(job, split, names, channels, are_volumes=are_volumes, in_files=in_files)
    folds = _folds(job, split, names)
    if folds:
        write_json(job.folder / "splits_final.json", folds)


def _declare(
    job: Job,
    split: Mapping[str, Split],
    names: Mapping[str, str],
    channels: int,
    *,
    are_volumes: bool,
    in_files: bool,
) -> None:
    views = any(case.field_of_view for item in job.items for case in item.cases)
    declaration: dict[str, Any] = {
        "channel_names": _channel_names(channels, rgb=not in_files and not are_volumes),
        "labels": _labels(job.labels, ignores=views or job.labels.ignore is not None),
        "numTraining": sum(split.get(item.id) != "test" for item in job.items),
        "file_ending": _VOLUMES if are_volumes else _PICTURES,
    }
    if job.labels.regions:
        declaration["regions_class_order"] = _class_order(job.labels)
    cases = {names[item.id]: item.case for item in job.items}
    declaration["medseg"] = {
        "ids": {names[item.id]: item.id for item in job.items if names[item.id] != item.id},
        "patients": {name: case.patient for name, case in cases.items() if case.patient},
        "attributes": {
            name: dict(case.attributes) for name, case in cases.items() if case.attributes
        },
    }
    write_json(job.folder / "dataset.json", declaration)


def _leave_out_unlabelled(job: Job, split: Mapping[str, Split]) -> None:
    kept = [
        item for item in job.items if item.case.mask is not None or split.get(item.id) == "test"
    ]
    job.keep_only(kept, "nnU-Net has no place for unlabelled training cases")


def _write_volume(job: Job, item: Item, image: Path, mask: Path) -> int:
    """Write a volume and its mask; how many channels it has."""
    written = volumes.write_images(job, item, image, colours=False)
    if len(written) == 1:
        written[0].rename(with_suffix(numbered(image, 0), _VOLUMES))
    if all(case.mask is not None for case in item.cases):
        slices = np.stack([_classes(job, case) for case in item.cases])
        volumes.write_values(job, item, mask, slices)
    return len(written)


def _write_pictures(job: Job, source: Source, stem: Path, *, in_files: bool) -> int:
    """Write a picture; how many channels it has."""
    channels = job.survey.channels
    if isinstance(source, Channels) and in_files:
        for index, part in enumerate(source.parts):
            _write_image(job, part, numbered(stem, index), 1)
    elif channels in (1, 3):
        _write_image(job, source, numbered(stem, 0), channels)
    else:
        image = source.read_image()
        for index in range(channels):
            save_png(with_suffix(numbered(stem, index), _PICTURES), image[..., index])
            job.count(copied=False)
    return channels


def _classes(job: Job, case: Case) -> NDArray[np.uint8]:
    """The class indices of a labelled case, with that of ignored pixels after the last."""
    assert case.mask is not None
    classes = read_classes(case.mask, job.labels, field_of_view=case.field_of_view)
    classes[classes == IGNORE] = len(job.labels.labels)
    return classes


def _write_image(job: Job, source: Source, stem: Path, channels: int) -> None:
    if isinstance(source, File) and _is_plain_png(source.file, channels):
        copy(source.file, with_suffix(stem, _PICTURES))
        job.count(copied=True)
        return
    image = source.read_image()
    pixels: NDArray[np.uint8] = image[..., 0] if channels == 1 else image
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    save_png(with_suffix(stem, _PICTURES), pixels)
    job.count(copied=False)


def _is_plain_png(path: Path, channels: int) -> bool:
    """Whether any reader sees the same pixels in it: no palette, no alpha, no rotation."""
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


def _channel_names(channels: int, *, rgb: bool) -> dict[str, str]:
    if channels == 1:
        return {"0": "grey"}
    if channels == 3 and rgb:
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
    name_of = dict(names) | {case.id: names[item.id] for item in job.items for case in item.cases}
    return [
        {
            part: list(dict.fromkeys(name_of[case_id] for case_id in ids if case_id in name_of))
            for part, ids in by_part(dict(fold)).items()
            if part != "test"
        }
        for fold in published
    ]
