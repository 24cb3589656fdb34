"""``images/`` and ``masks/``, as :mod:`medseg.data.layouts.folders` reads them.

The classes are in ``labels.json``, the published split in ``train.txt``, ``val.txt`` and
``test.txt``, patients and attributes in ``patients.csv``, fields of view in ``fov/``.
"""

from __future__ import annotations

from collections.abc import Sequence

from medseg.data.convert.items import (
    ORIGINAL,
    Item,
    Job,
    attribute_columns,
    by_part,
    note_folds,
    note_renamed,
    write_image,
    write_labels,
    write_mask,
    write_table,
    write_view,
)
from medseg.data.convert.names import path_names, plain_names
from medseg.data.layouts.names import SPLIT_NAMES
from medseg.files import write_text

VOLUMES = False


def write(job: Job) -> None:
    """Write the items; see :class:`medseg.data.convert.Target`."""
    split = job.split_of()
    ids = [item.id for item in job.items]
    # A folder called train/ would publish a split where there is none.
    job.names = plain_names(ids) if not split and _in_parts(ids) else path_names(ids)
    note_renamed(job, "patients.csv has both names")
    note_folds(job)
    write_labels(job)

    def one(item: Item) -> None:
        name = job.names[item.id]
        write_image(job, item.case.image, job.folder / "images" / name)
        if item.case.mask is not None:
            write_mask(job, item.case.mask, job.folder / "masks" / name)
        if item.case.field_of_view is not None:
            write_view(item.case.field_of_view, job.folder / "fov" / name)

    job.each(one)
    for part, members in by_part(split).items():
        text = "".join(f"{job.names[case_id]}\n" for case_id in members)
        write_text(job.folder / f"{part}.txt", text)
    _write_patients(job)


def _in_parts(ids: Sequence[str]) -> bool:
    return all("/" in case_id and case_id.split("/")[0].lower() in SPLIT_NAMES for case_id in ids)


def _write_patients(job: Job) -> None:
    columns = attribute_columns(job, ("case", "patient"))
    renamed = any(case_id != name for case_id, name in job.names.items())
    if not columns and not renamed and not any(item.case.patient for item in job.items):
        return
    # A dataset that was renamed before keeps the ids that it had first.
    if renamed:
        columns.setdefault(ORIGINAL, ORIGINAL)
    rows = []
    for item in job.items:
        known = {ORIGINAL: item.id, **item.case.attributes}
        row = [job.names[item.id], item.case.patient or ""]
        rows.append(row + [known.get(name, "") for name in columns])
    write_table(job.folder / "patients.csv", ["case", "patient", *columns.values()], rows)
