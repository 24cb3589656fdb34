"""MONAI's datalist, as :mod:`medseg.data.layouts.datalist` reads it: ``datalist.json`` lists the
files in ``images/`` and ``masks/`` for training, validation and testing.

Source: https://github.com/Project-MONAI/MONAI, monai/data/decathlon_datalist.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medseg.data.case import Split
from medseg.data.convert.files import write_item
from medseg.data.convert.items import (
    Item,
    Job,
    attribute_columns,
    write_json,
    write_labels,
)
from medseg.data.convert.names import path_names

VOLUMES = True
_LISTS: dict[Split, str] = {"train": "training", "val": "validation", "test": "testing"}
_RESERVED = (
    "image",
    "label",
    "id",
    "fold",
    "field_of_view",
    "patient",
    "patient_id",
    "subject",
    "subject_id",
)


def write(job: Job) -> None:
    """Write the items; see :class:`medseg.data.convert.Target`."""
    split = job.split_of()
    names = path_names([item.id for item in job.items])
    columns = attribute_columns(job, _RESERVED, fold_case=False)
    folds = _folds(job)

    def entry(item: Item) -> dict[str, Any]:
        case = item.case
        files = write_item(job, item, names[item.id])
        known = {
            "id": item.id,
            "image": _listed(job, files.images),
            "label": _listed(job, files.masks),
            "field_of_view": _listed(job, files.views),
            "patient": case.patient,
            "fold": folds.get(case.id) if split.get(item.id) != "test" else None,
        }
        listed = {key: value for key, value in known.items() if value is not None}
        return listed | {columns[name]: value for name, value in case.attributes.items()}

    entries = dict(zip((item.id for item in job.items), job.each(entry), strict=True))
    content: dict[str, Any] = {}
    labels = job.labels
    # The list knows neither colours nor an order of its own, only numbers from 0.
    if labels.rgb or labels.values[0] != 0 or list(labels.values) != sorted(labels.values):
        write_labels(job)
    else:
        content["labels"] = _labels(job)
    for part, name in _LISTS.items():
        ids = [case_id for case_id in entries if split.get(case_id, "train") == part]
        if ids or part == "train":
            content[name] = [entries[case_id] for case_id in ids]
    write_json(job.folder / "datalist.json", content)


def _listed(job: Job, paths: Sequence[Path]) -> str | list[str] | None:
    names = [path.relative_to(job.folder).as_posix() for path in paths]
    if not names:
        return None
    return names[0] if len(names) == 1 else names


def _labels(job: Job) -> dict[str, Any]:
    """Names by value, as in MSD; values by name, as in nnU-Net, where regions overlap."""
    labels = job.labels
    ignored = [] if labels.ignore is None else [(labels.ignore, "ignore")]
    if not labels.regions:
        pairs = [*((label.value, label.name) for label in labels.labels), *ignored]
        return {str(value): name for value, name in pairs}
    regions = {
        region.name: [labels.values[index] for index in region.classes] for region in labels.regions
    }
    return {labels.names[0]: 0, **regions, **{name: value for value, name in ignored}}


def _folds(job: Job) -> dict[str, int]:
    """In which published fold a case validates, where that is once for each."""
    published = job.survey.dataset.folds
    if len(published) < 2:
        return {}
    places = [
        (case_id, number)
        for number, fold in enumerate(published)
        for case_id, part in fold.items()
        if part == "val"
    ]
    if len(dict(places)) < len(places) or len(dict(places)) < len(published[0]):
        job.note("published folds not kept: in a datalist each case validates in just one fold")
        return {}
    return dict(places)
