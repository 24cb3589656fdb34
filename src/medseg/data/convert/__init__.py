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
from shlex import quote
from typing import Protocol, cast

from medseg.data.convert.items import Job, collect
from medseg.data.layouts import LAYOUTS
from medseg.data.leaks import KINDS
from medseg.data.slices import volume_of
from medseg.data.survey import Survey
from medseg.errors import DataError, MedsegError, nearest, plural

__all__ = ["TARGETS", "Conversion", "Target", "convert_dataset"]

TARGETS: Mapping[str, str] = {
    "images-masks": "medseg.data.convert.images_masks",
    "manifest": "medseg.data.convert.manifest",
    "nnunet": "medseg.data.convert.nnunet",
    "datalist": "medseg.data.convert.datalist",
    "coco": "medseg.data.convert.coco",
}


# The layout that reads a target, where it is called otherwise.
_LAYOUTS = {"images-masks": "folders"}
_TELL = "Convert to manifest, which keeps everything, and report this as a bug"


class Target(Protocol):
    """What a target's module provides.

    Attributes:
        VOLUMES: whether it holds volumes; otherwise their slices become pictures.
    """

    VOLUMES: bool

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
        survey: of :func:`medseg.data.integrity.check_dataset`; of errors it may only have leaks.
        target: a name in ``TARGETS``.
        output: a folder that does not exist or is empty, outside of the dataset.
        progress: called in this thread with (pictures written, all pictures).

    Raises:
        DataError: the survey has errors, or the layout cannot hold what the dataset has.
        MedsegError: ``output`` is not empty, lies in the dataset or cannot be written.
    """
    if target not in TARGETS:
        raise DataError("--to", f"there is no '{target}'", nearest(target, TARGETS))
    errors = [problem for problem in survey.errors if problem.kind not in KINDS]
    if errors or survey.labels is None:
        first = f"; first: {errors[0].where}: {errors[0].found}" if errors else ""
        raise DataError(
            survey.dataset.root,
            f"{plural(len(errors), 'error')} in the data, with which nothing is converted{first}",
            f"See `medseg data check {quote(str(survey.dataset.root))}`",
        )
    _check_output(survey.dataset.root, output)
    place = output.resolve()
    part = place.with_name(f".{place.name}.part")
    module = cast(Target, import_module(TARGETS[target]))
    items = collect(survey, volumes=module.VOLUMES)
    job = Job(part, survey, survey.labels, items, progress)
    leaks = len(survey.errors) - len(errors)
    if leaks:
        job.notes.append(f"the published split leaks, and is kept: {plural(leaks, 'leak')}")
    flattened = {
        volume_of(item.case.image)
        for item in items
        if not item.is_volume and volume_of(item.case.image)
    }
    if flattened:
        job.notes.append(
            f"{plural(len(flattened), 'volume')} written slice by slice: spacing and orientation "
            "are lost"
        )
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        module.write(job)
        _check_written(job, target, output)
        if place.is_dir():
            place.rmdir()
        os.replace(part, place)
    except OSError as error:
        raise MedsegError(
            output,
            f"could not be written ({error.strerror or error})",
            "Free space or choose another output folder",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Conversion(output, job.cases, job.copied, job.encoded, tuple(job.notes))


def _check_written(job: Job, target: str, output: Path) -> None:
    """Compare what can be read back with what was to be written, but for pixels.

    Raises:
        DataError: cases, classes, patients or the split would not come back as they were.
    """
    module = LAYOUTS[_LAYOUTS.get(target, target)]
    found = module.read(job.folder)
    wrong = [problem for problem in found.problems if problem.severity == "error"]
    if wrong:
        raise DataError(
            wrong[0].where, f"was written and is not read back ({wrong[0].found})", _TELL
        )
    if found.labels is None or len(found.labels.labels) != len(job.labels.labels):
        raise DataError(output, f"has other classes when read as {target}", _TELL)
    renamed = [
        f"'{ours}' to '{theirs}'"
        for ours, theirs in zip(job.labels.names, found.labels.names, strict=True)
        if ours != theirs
    ]
    if renamed:
        job.note(f"classes renamed: {', '.join(renamed)}")
    published = any(case.split for item in job.items for case in item.cases)
    written = {
        f"{job.names.get(item.id, item.id)}{case.id.removeprefix(item.id)}": case
        for item in job.items
        for case in item.cases
    }
    back = {case.id: case for case in found.cases}
    for case_id in sorted(written.keys() | back.keys()):
        ours, theirs = written.get(case_id), back.get(case_id)
        if ours is None or theirs is None:
            happened = "comes from nowhere" if ours is None else "does not come back"
            raise DataError(case_id, f"{happened} when read as {target}", _TELL)
        if ours.patient != theirs.patient:
            told = f"has the patient {theirs.patient}, not {ours.patient}, when read as {target}"
            raise DataError(case_id, told, _TELL)
        # A case without a part is trained on, where others have one.
        if (ours.split or "train") != (theirs.split or "train") or (theirs.split and not published):
            told = f"is in the part {theirs.split}, not {ours.split}, when read as {target}"
            raise DataError(case_id, told, _TELL)


def _check_output(root: Path, output: Path) -> None:
    source = (root if root.is_dir() else root.parent).resolve()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise MedsegError(output, "is not an empty folder", "Choose a new folder for -o")
    if output.resolve() == Path.cwd():
        raise MedsegError(output, "is the folder you are in", "Choose a new folder for -o")
    if root.is_dir() and output.resolve().is_relative_to(source):
        raise MedsegError(
            output, "lies in the dataset that is read", "Choose a folder outside of it"
        )
