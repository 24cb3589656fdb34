"""``manifest.csv`` beside ``images/`` and ``masks/``, as :mod:`medseg.data.layouts.manifest` reads
it: the only target that keeps everything a case has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medseg.data.convert.files import write_item
from medseg.data.convert.items import (
    Item,
    Job,
    attribute_columns,
    note_folds,
    write_labels,
    write_table,
)
from medseg.data.convert.names import path_names
from medseg.data.layouts.manifest import ALIASES

VOLUMES = True
_COLUMNS = ("id", "image", "mask", "patient", "split", "field_of_view")
_RESERVED = frozenset({*ALIASES, *(alias for aliases in ALIASES.values() for alias in aliases)})


def write(job: Job) -> None:
    """Write the items; see :class:`medseg.data.convert.Target`."""
    names = path_names([item.id for item in job.items])
    attributes = attribute_columns(job, _RESERVED)
    has_view = any(item.case.field_of_view for item in job.items)
    note_folds(job)
    write_labels(job)

    def cell(paths: Sequence[Path]) -> str:
        return "|".join(path.relative_to(job.folder).as_posix() for path in paths)

    def row(item: Item) -> list[str]:
        case = item.case
        files = write_item(job, item, names[item.id])
        known = [
            item.id,
            cell(files.images),
            cell(files.masks),
            case.patient or "",
            case.split or "",
        ]
        return [
            *known,
            *([cell(files.views)] if has_view else []),
            *(case.attributes.get(name, "") for name in attributes),
        ]

    rows = job.each(row)
    columns = _COLUMNS if has_view else _COLUMNS[:-1]
    write_table(job.folder / "manifest.csv", [*columns, *attributes.values()], rows)
