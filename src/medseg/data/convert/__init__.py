"""Writing a dataset in another layout, so that medseg reads the same cases back.

A target is a module with one function, :class:`Target`. A new one is a file beside this one and a
line in ``TARGETS``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from medseg.data.convert.items import Job, collect
from medseg.data.integrity import Survey
from medseg.errors import DataError, MedsegError, nearest, plural

__all__ = ["TARGETS", "Conversion", "Target", "convert_dataset"]

TARGETS: Mapping[str, str] = {
    "images-masks": "medseg.data.convert.images_masks",
    "manifest": "medseg.data.convert.manifest",
    "nnunet": "medseg.data.convert.nnunet",
    "datalist": "medseg.data.convert.datalist",
    "coco": "medseg.data.convert.coco",
}


class Target(Protocol):
    """What a target's module provides."""

    def write(self, job: Job) -> None:
        """Write ``job.items`` into ``job.folder``.

        Raises:
            DataError: the layout cannot hold what the dataset has.
        """


@dataclass(frozen=True, slots=True)
class Conversion:
    """What :func:`convert_dataset` wrote.

    Attributes:
        output: the folder.
        cases: cases it holds.
        copied: image files copied as they are.
        encoded: image files written anew.
        notes: what was renamed, left out or could not be kept, in words.
    """

    output: Path
    cases: int
    copied: int
    encoded: int
    notes: tuple[str, ...]


def convert_dataset(
    survey: Survey,
    target: str,
    output: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Conversion:
    """Write a dataset in another layout.

    Pixels, classes, patients, attributes and the published split are kept where the layout has a
    place for them; the notes say what it has none for. Image and mask files are copied where the
    layout allows their format and are otherwise written as PNG, which changes no pixel that medseg
    reads. Nothing is left at ``output`` unless all of it was written.

    Args:
        survey: of :func:`medseg.data.integrity.check_dataset`, without errors.
        target: a name in ``TARGETS``.
        output: a folder that does not exist or is empty, outside of the dataset.
        progress: called in this thread with (pictures written, all pictures).

    Raises:
        DataError: the survey has errors, or the layout cannot hold what the dataset has.
        MedsegError: ``output`` is not empty, lies in the dataset or cannot be written.
    """
    if target not in TARGETS:
        raise DataError("--to", f"there is no '{target}'", nearest(target, TARGETS))
    if survey.errors or survey.labels is None:
        raise DataError(
            survey.dataset.root,
            f"{plural(len(survey.errors), 'error')} in the data, with which nothing is converted",
            "See `medseg data check`",
        )
    _check_output(survey.dataset.root, output)
    part = output.with_name(f".{output.name}.part")
    module = cast(Target, import_module(TARGETS[target]))
    job = Job(part, survey, survey.labels, collect(survey), progress)
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        module.write(job)
        if output.is_dir():
            output.rmdir()
        os.replace(part, output)
    except OSError as error:
        raise MedsegError(
            output,
            f"could not be written ({error.strerror or error})",
            "Free space or choose another output folder",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Conversion(output, job.cases, job.copied, job.encoded, tuple(job.notes))


def _check_output(root: Path, output: Path) -> None:
    source = (root if root.is_dir() else root.parent).resolve()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise MedsegError(output, "is not an empty folder", "Choose a new folder for -o")
    if root.is_dir() and output.resolve().is_relative_to(source):
        raise MedsegError(
            output, "lies in the dataset that is read", "Choose a folder outside of it"
        )
