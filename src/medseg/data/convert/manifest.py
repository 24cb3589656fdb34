"""``manifest.csv`` beside ``images/`` and ``masks/``, as :mod:`medseg.data.layouts.manifest` reads
it: the only target that keeps everything a case has."""

from __future__ import annotations

from pathlib import Path

from medseg.data.convert.items import (
    Item,
    Job,
    attribute_names,
    path_names,
    write_channels,
    write_labels,
    write_mask,
    write_table,
    write_view,
)

_COLUMNS = ("id", "image", "mask", "patient", "split", "field_of_view")


def write(job: Job) -> None:
    """Write the items; see :class:`medseg.data.convert.Target`."""
    names = path_names([item.id for item in job.items])
    attributes = attribute_names(job.items)
    has_view = any(item.case.field_of_view for item in job.items)
    write_labels(job)

    def cell(paths: list[Path]) -> str:
        return "|".join(path.relative_to(job.folder).as_posix() for path in paths)

    def row(item: Item) -> list[str]:
        case, name = item.case, names[item.id]
        images = write_channels(job, case.image, job.folder / "images" / name)
        masks = [write_mask(job, case.mask, job.folder / "masks" / name)] if case.mask else []
        view = case.field_of_view
        views = [write_view(view, job.folder / "field_of_view" / name)] if view else []
        known = [item.id, cell(images), cell(masks), case.patient or "", case.split or ""]
        return [
            *known,
            *([cell(views)] if has_view else []),
            *(case.attributes.get(name, "") for name in attributes),
        ]

    rows = job.each(row)
    columns = _COLUMNS if has_view else _COLUMNS[:-1]
    write_table(job.folder / "manifest.csv", [*columns, *attributes], rows)
