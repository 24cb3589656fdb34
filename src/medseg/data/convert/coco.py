"""COCO's instance annotations, as :mod:`medseg.data.layouts.coco` reads them.

Images are in ``images/``, each published part is a file in ``annotations/``. Each class of a mask
is one annotation in compressed run lengths, which are exact; objects that touch are not told apart.
(T.-Y. Lin et al., Microsoft COCO, 2014, arXiv:1405.0312.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import IGNORE
from medseg.data.convert.items import (
    ORIGINAL,
    Item,
    Job,
    attribute_columns,
    by_part,
    note_folds,
    note_renamed,
    write_image,
    write_json,
)
from medseg.data.convert.names import path_names
from medseg.data.labels import read_classes
from medseg.errors import DataError

VOLUMES = False
_RESERVED = (
    "id",
    "file_name",
    "width",
    "height",
    "license",
    "flickr_url",
    "coco_url",
    "date_captured",
    "patient",
    "patient_id",
    "split",
)


def write(job: Job) -> None:
    """Write the items; see :class:`medseg.data.convert.Target`."""
    labelled = [item for item in job.items if item.case.mask is not None]
    job.keep_only(labelled, "COCO takes an image without annotations for an empty one")
    note_folds(job)
    if job.labels.regions:
        names = ", ".join(region.name for region in job.labels.regions)
        job.note(f"regions not kept, as COCO has no place for them: {names}")
    job.names = path_names([item.id for item in job.items])
    note_renamed(job, f"{ORIGINAL} of each image has its id")
    columns = attribute_columns(job, _RESERVED, fold_case=False)
    numbers = {item.id: number for number, item in enumerate(job.items, start=1)}

    def one(item: Item) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        case, number = item.case, numbers[item.id]
        assert case.mask is not None
        classes = read_classes(case.mask, job.labels, field_of_view=case.field_of_view)
        if (classes == IGNORE).any():
            raise DataError(
                case.mask,
                "has pixels that nothing is known of, which COCO cannot hold",
                "Convert to nnunet, images-masks, manifest or datalist",
            )
        path = write_image(job, case.image, job.folder / "images" / job.names[item.id])
        entry: dict[str, Any] = {
            "id": number,
            "file_name": path.relative_to(job.folder / "images").as_posix(),
            "width": classes.shape[1],
            "height": classes.shape[0],
        }
        renamed = item.id if job.names[item.id] != item.id else None
        known = {ORIGINAL: renamed, "patient": case.patient, "split": case.split}
        entry |= {key: value for key, value in known.items() if value}
        entry |= {columns[name]: value for name, value in case.attributes.items()}
        return entry, _annotations(classes, number, len(job.labels.labels))

    written = dict(zip(numbers, job.each(one), strict=True))
    categories = [
        {"id": index, "name": name, "supercategory": name}
        for index, name in enumerate(job.labels.names)
        if index
    ]
    parts = by_part(job.split_of())
    files = list(parts.items()) if len(parts) > 1 else [(None, list(numbers))]
    for part, ids in files:
        name = "instances.json" if part is None else f"instances_{part}.json"
        content = {
            "info": {},
            "licenses": [],
            "images": [written[case_id][0] for case_id in ids],
            "annotations": [
                {"id": number, **annotation}
                for number, annotation in enumerate(
                    (each for case_id in ids for each in written[case_id][1]), start=1
                )
            ],
            "categories": categories,
        }
        write_json(job.folder / "annotations" / name, content)


def compressed(inside: NDArray[np.bool_]) -> str:
    """The run lengths of a mask (H, W) as COCO's text (COCO API, ``rleToString`` in maskApi.c).

    Runs go column by column and begin outside. From the fourth on, a length is stored as its
    difference to the one two before, in groups of five bits with the lowest first.
    """
    pixels = np.concatenate([[False], inside.ravel(order="F")])
    starts = np.flatnonzero(pixels[1:] != pixels[:-1])
    lengths = np.diff(np.concatenate([[0], starts, [inside.size]])).tolist()
    text = []
    for index, length in enumerate(lengths):
        number = length - lengths[index - 2] if index > 2 else length
        while True:
            group, number = number & 31, number >> 5
            # The highest bit of the last group is the sign.
            last = number == (-1 if group & 16 else 0)
            text.append(chr(48 + group + (0 if last else 32)))
            if last:
                break
    return "".join(text)


def _annotations(classes: NDArray[np.uint8], image: int, count: int) -> list[dict[str, Any]]:
    found = []
    for index in range(1, count):
        inside = classes == index
        if not inside.any():
            continue
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        top, left = int(rows[0]), int(columns[0])
        found.append(
            {
                "image_id": image,
                "category_id": index,
                "segmentation": {"size": list(classes.shape), "counts": compressed(inside)},
                "area": int(inside.sum()),
                "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
                "iscrowd": 0,
            }
        )
    return found
