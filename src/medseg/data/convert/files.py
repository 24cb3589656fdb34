"""Writing all files of an item, for layouts that list files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg.data.convert import volumes
from medseg.data.convert.items import Item, Job, write_channels, write_mask, write_view


@dataclass(frozen=True, slots=True)
class Files:
    """What was written of an item; masks and views are empty when it has none."""

    images: Sequence[Path]
    masks: Sequence[Path]
    views: Sequence[Path]


def write_item(job: Job, item: Item, name: str) -> Files:
    """Write ``images/NAME``, ``masks/NAME`` and ``field_of_view/NAME``, with a suffix each."""
    image, mask, view = (job.folder / kind / name for kind in ("images", "masks", "field_of_view"))
    if item.is_volume:
        written = volumes.write_mask(job, item, mask), volumes.write_view(job, item, view)
        kept = [[path] if path is not None else [] for path in written]
        return Files(volumes.write_images(job, item, image), *kept)
    case = item.case
    return Files(
        write_channels(job, case.image, image),
        [write_mask(job, case.mask, mask)] if case.mask is not None else [],
        [write_view(case.field_of_view, view)] if case.field_of_view is not None else [],
    )
