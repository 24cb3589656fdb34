"""``images/`` and ``masks/``, as :mod:`medseg.data.layouts.folders` reads them.

The classes are in ``labels.json``, the published split in ``train.txt``, ``val.txt`` and
``test.txt``, patients and attributes in ``patients.csv``, fields of view in ``fov/``.
"""

from __future__ import annotations

from medseg.data.convert.items import (
    Item,
    Job,
    attribute_names,
    by_part,
    note_renamed,
    path_names,
    write_image,
    write_labels,
    write_mask,
    write_table,
    write_view,
)
from medseg.files import write_text

_ORIGINAL = "original_id"


def write(job: Job) -> None:
    """Write the items; see :class:`medseg.data.convert.Target`."""
    names = path_names([item.id for item in job.items])
    note_renamed(job, names, "patients.csv has both names")
    write_labels(job)

    def one(item: Item) -> None:
        name = names[item.id]
        write_image(job, item.case.image, job.folder / "images" / name)
        if item.case.mask is not None:
            write_mask(job, item.case.mask, job.folder / "masks" / name)
        if item.case.field_of_view is not None:
            write_view(item.case.field_of_view, job.folder / "fov" / name)

    job.each(one)
    for part, ids in by_part(job.split_of()).items():
        text = "".join(f"{names[case_id]}\n" for case_id in ids)
        write_text(job.folder / f"{part}.txt", text)
    _write_patients(job, names)


def _write_patients(job: Job, names: dict[str, str]) -> None:
    attributes = attribute_names(job.items)
    renamed = any(case_id != name for case_id, name in names.items())
    if not attributes and not renamed and not any(item.case.patient for item in job.items):
        return
    # A dataset that was renamed before keeps the ids that it had first.
    if renamed and _ORIGINAL not in attributes:
        attributes.append(_ORIGINAL)
    rows = []
    for item in job.items:
        known = {_ORIGINAL: item.id, **item.case.attributes} if renamed else item.case.attributes
        row = [names[item.id], item.case.patient or ""]
        rows.append(row + [known.get(name, "") for name in attributes])
    write_table(job.folder / "patients.csv", ["case", "patient", *attributes], rows)
