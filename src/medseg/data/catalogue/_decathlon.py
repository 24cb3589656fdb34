"""What the ten tasks of the Medical Segmentation Decathlon share."""

from __future__ import annotations

from medseg.data.case import Label
from medseg.data.catalogue.entry import Citation, Entry

_CATALOGUE = "https://github.com/openmedlab/Awesome-Medical-Dataset/blob/main/resources/"
_SITE = "http://medicaldecathlon.com/"


def decathlon(
    *,
    name: str,
    folder: str,
    modality: str,
    organ: str,
    summary: str,
    classes: tuple[str, ...],
    train: int,
    test: int | None,
    source: str,
    notes: tuple[str, ...] = (),
    unverified: tuple[str, ...] = (),
) -> Entry:
    """The entry of one task.

    Args:
        name: as in :class:`Entry`.
        folder: that the archive unpacks to.
        modality: as in :class:`Entry`.
        organ: likewise.
        summary: likewise.
        classes: names of the values 1, 2 ...
        train: volumes with masks.
        test: volumes whose masks the organisers keep, or None when unknown.
        source: the page of the facts in openmedlab's catalogue.
        notes: as in :class:`Entry`.
        unverified: likewise.
    """
    hidden = f"{test} more volumes" if test is not None else "the test volumes"
    return Entry(
        name=name,
        title=f"Medical Segmentation Decathlon, {folder}",
        modality=modality,
        organ=organ,
        summary=summary,
        labels=tuple(Label(each, value) for value, each in enumerate(("background", *classes))),
        images=train,
        unit="volumes",
        licence="CC BY-SA 4.0",
        licence_url=_SITE,
        citation=Citation(
            authors="Antonelli, Reinke, Bakas, Farahani, Kopp-Schneider et al.",
            year=2022,
            title="The Medical Segmentation Decathlon",
            venue="Nature Communications 13, 4128",
            link="https://doi.org/10.1038/s41467-022-30695-9",
        ),
        url=_SITE,
        steps=(
            f"download {folder}.tar from the links there and unpack it; the dataset is the folder "
            f"{folder} with dataset.json, imagesTr/ and labelsTr/",
        ),
        layout="msd",
        notes=(
            f"{train} volumes have masks; those of {hidden} are kept by the organisers, so papers "
            "divide the former, each its own way",
            *notes,
        ),
        sources=("http://medicaldecathlon.com/index.html", f"{_CATALOGUE}{source}"),
        unverified=unverified,
    )
