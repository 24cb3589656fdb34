"""What targets share: the things to write, their names, and writing images and masks."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medseg.data.case import IGNORE, SPLITS, Case, LabelMap, Split
from medseg.data.io import IMAGE_SUFFIXES
from medseg.data.io.pixels import unpack_colours
from medseg.data.io.volume import read_header
from medseg.data.labels import IGNORED, LABELS_FILE, encode_mask
from medseg.data.slices import gather, volume_of
from medseg.data.source import Channels, File, Source
from medseg.data.survey import Survey
from medseg.errors import DataError, plural
from medseg.files import write_text

ORIGINAL = "original_id"
"""The attribute that keeps the id of a case that had to be renamed."""

_MAX_WORKERS = 8
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Item:
    """A picture or a volume to be written.

    Attributes:
        id: of the case, or of the volume.
        cases: one, or those of all slices of a volume in order.
        is_volume: whether it is written as a volume.
    """

    id: str
    cases: tuple[Case, ...]
    is_volume: bool = False

    @property
    def case(self) -> Case:
        """The case, or that of the first slice: all have one patient, split and attributes."""
        return self.cases[0]


@dataclass(slots=True)
class Job:
    """One conversion.

    Attributes:
        folder: to write into.
        survey: of the dataset.
        labels: its classes.
        items: what is to be written, by id.
        progress: called with (done, all).
        names: what items are called that could not keep their id.
        notes: what was renamed, left out or could not be kept.
        copied: image files copied as they are.
        encoded: image files written anew.
        cases: cases written.
    """

    folder: Path
    survey: Survey
    labels: LabelMap
    items: Sequence[Item]
    progress: Callable[[int, int], None] | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    copied: int = 0
    encoded: int = 0
    cases: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def each(self, write: Callable[[Item], _Result]) -> list[_Result]:
        """Call ``write`` for every item, several at a time; the results in the items' order."""
        results = []
        with ThreadPoolExecutor(min(_MAX_WORKERS, os.cpu_count() or 1)) as pool:
            try:
                for done, result in enumerate(pool.map(write, self.items), start=1):
                    results.append(result)
                    self.cases += len(self.items[done - 1].cases)
                    if self.progress is not None:
                        self.progress(done, len(self.items))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return results

    def count(self, *, copied: bool) -> None:
        with self._lock:
            self.copied += copied
            self.encoded += not copied

    def note(self, text: str) -> None:
        """Say something once, from any thread."""
        with self._lock:
            if text not in self.notes:
                self.notes.append(text)

    def keep_only(self, kept: Sequence[Item], why: str) -> None:
        """Leave out all unlabelled items but ``kept``, and say why.

        Raises:
            DataError: nothing is kept.
        """
        left = len(self.items) - len(kept)
        if not kept:
            root = self.survey.dataset.root
            raise DataError(root, f"holds only unlabelled cases: {why}", "Convert to manifest")
        if left:
            self.notes.append(f"{plural(left, 'unlabelled case')} left out: {why}")
        self.items = kept

    def split_of(self) -> dict[str, Split]:
        """The published part of every item by its id; empty without a published split."""
        given = {item.id: item.case.split for item in self.items if item.case.split}
        if given and len(given) < len(self.items):
            self.notes.append(
                f"{plural(len(self.items) - len(given), 'case')} in no part of the published split "
                "joined the training part"
            )
        return {item.id: given.get(item.id) or "train" for item in self.items} if given else {}


def collect(survey: Survey, *, volumes: bool) -> list[Item]:
    """What is to be written of a dataset.

    Args:
        survey: of the dataset.
        volumes: whether the slices of a volume are written together.
    """
    cases = survey.dataset.cases
    # A volume's mask holds one number a voxel, so that colours can only be kept in pictures.
    if not volumes or (survey.labels is not None and survey.labels.rgb):
        return [Item(case.id, (case,)) for case in cases]
    return [Item(whole.id, whole.cases, _is_whole(whole.cases)) for whole in gather(cases)]


def _is_whole(cases: Sequence[Case]) -> bool:
    files = volume_of(cases[0].image)
    return files is not None and read_header(files).num_slices == len(cases)


def write_image(job: Job, source: Source, stem: Path) -> Path:
    """Copy or encode an image of 1 or 3 channels; the path written is ``stem`` with a suffix.

    Raises:
        DataError: an image of another number of channels.
    """
    if isinstance(source, File) and _keeps_suffix(source.file):
        job.count(copied=True)
        return copy(source.file, with_suffix(stem, source.file.suffix.lower()))
    path = with_suffix(stem, ".png")
    save_png(path, _as_picture(source))
    job.count(copied=False)
    return path


def write_channels(job: Job, source: Source, stem: Path) -> list[Path]:
    """As :func:`write_image`, with one file a channel when channels lie in several files, or when
    there are not 1 or 3."""
    if isinstance(source, Channels):
        return [
            write_image(job, part, numbered(stem, index)) for index, part in enumerate(source.parts)
        ]
    if isinstance(source, File):
        return [write_image(job, source, stem)]
    image = source.read_image()
    if image.shape[2] in (1, 3):
        return [write_image(job, source, stem)]
    paths = []
    for index in range(image.shape[2]):
        paths.append(with_suffix(numbered(stem, index), ".png"))
        save_png(paths[-1], image[..., index])
        job.count(copied=False)
    return paths


def write_mask(job: Job, source: Source, stem: Path) -> Path:
    """Copy or encode a mask with its stored values; the path written is ``stem`` with a suffix."""
    file = source.read_mask()
    if isinstance(source, File) and not file.lossy and _keeps_suffix(source.file):
        return copy(source.file, with_suffix(stem, source.file.suffix.lower()))
    classes = encode_mask(file, job.labels, where=source)
    path = with_suffix(stem, ".png")
    save_png(path, stored(classes, job.labels))
    return path


def write_view(source: Source, stem: Path) -> Path:
    """Copy or encode a field of view."""
    file = source.read_mask()
    if isinstance(source, File) and not file.lossy and _keeps_suffix(source.file):
        return copy(source.file, with_suffix(stem, source.file.suffix.lower()))
    path = with_suffix(stem, ".png")
    save_png(path, np.where(file.values > (127 if file.lossy else 0), 255, 0).astype(np.uint8))
    return path


def stored(classes: NDArray[np.uint8], labels: LabelMap) -> NDArray[Any]:
    """Class indices as mask files store them: (H, W) uint8 or uint16, or (H, W, 3) uint8."""
    table = np.zeros(256, np.int32)
    table[: len(labels.values)] = labels.values
    if labels.ignore is not None:
        table[IGNORE] = labels.ignore
    values = table[classes]
    if labels.rgb:
        return unpack_colours(values)
    return values.astype(np.uint16 if table.max() > 255 else np.uint8)


def save_png(path: Path, pixels: NDArray[Any]) -> None:
    """Write (H, W) uint8 or uint16, or (H, W, 3) uint8."""
    Image.fromarray(pixels).save(room_for(path), format="PNG")


def copy(source: Path, target: Path) -> Path:
    """Copy a file's content; the target."""
    shutil.copyfile(source, room_for(target))
    return target


def room_for(path: Path) -> Path:
    """``path``, whose folder exists now, and which is taken: files are written in threads.

    Raises:
        DataError: something else was written there before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.touch(exist_ok=False)
    except FileExistsError as error:
        found = "would be the name of two files"
        raise DataError(path.name, found, "Rename one of the cases") from error
    return path


def write_labels(job: Job) -> None:
    """Write ``labels.json``.

    Raises:
        DataError: a class is called as that file calls what is ignored.
    """
    labels = job.labels
    reserved = [label.name for label in labels.labels if label.name.lower() == IGNORED]
    if reserved:
        raise DataError(
            job.survey.dataset.root,
            f"a class is called '{reserved[0]}', which {LABELS_FILE} keeps for unknown pixels",
            "Rename the class",
        )
    pairs = [(label.name, label.value) for label in labels.labels]
    if labels.ignore is not None:
        pairs.append((IGNORED, labels.ignore))
    if labels.regions:
        names = ", ".join(region.name for region in labels.regions)
        job.notes.append(f"regions not kept, as {LABELS_FILE} has no place for them: {names}")
    coded = {
        name: unpack_colours(np.array(value)).tolist() if labels.rgb else value
        for name, value in pairs
    }
    write_json(job.folder / LABELS_FILE, coded)


def write_json(path: Path, content: object) -> None:
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV file."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, table.getvalue())


def attribute_columns(
    job: Job, reserved: Collection[str], *, fold_case: bool = True
) -> dict[str, str]:
    """What each attribute is called in the target.

    Args:
        job: the conversion.
        reserved: names that mean something else there.
        fold_case: whether names that differ in case only are the same there.
    """
    columns: dict[str, str] = {}
    for name in sorted({name for item in job.items for name in item.case.attributes}):
        column = name.strip().lower() if fold_case else name.strip()
        while not column or column in reserved or column in columns.values():
            column = f"attribute_{column}"
        columns[name] = column
    renamed = [f"'{name}' to '{column}'" for name, column in columns.items() if name != column]
    if renamed:
        job.note(f"attributes renamed: {', '.join(renamed)}")
    return columns


def by_part(split: dict[str, Split]) -> dict[Split, list[str]]:
    """Ids by their part, parts without a case left out."""
    parts: dict[Split, list[str]] = {}
    for part in SPLITS:
        ids = [case_id for case_id, given in split.items() if given == part]
        if ids:
            parts[part] = ids
    return parts


def note_renamed(job: Job, where: str) -> None:
    renamed = [(case_id, name) for case_id, name in job.names.items() if case_id != name]
    if renamed:
        job.notes.append(
            f"{plural(len(renamed), 'case')} renamed, e.g. '{renamed[0][0]}' to "
            f"'{renamed[0][1]}'; {where}"
        )


def note_folds(job: Job) -> None:
    """Say that published folds are lost."""
    folds = len(job.survey.dataset.folds)
    if folds > 1:
        job.note(f"{folds} published folds not kept: this layout has no place for them")


def numbered(stem: Path, index: int) -> Path:
    """``NAME_0002``, as nnU-Net numbers channels."""
    return stem.with_name(f"{stem.name}_{index:04d}")


def with_suffix(stem: Path, suffix: str) -> Path:
    return stem.with_name(f"{stem.name}{suffix}")


def _as_picture(source: Source) -> NDArray[np.uint8]:
    image = source.read_image()
    if image.shape[2] not in (1, 3):
        raise DataError(
            source,
            f"has {image.shape[2]} channels; an image file of this layout holds 1 or 3",
            "Convert to nnunet, datalist or manifest, which keep channels in files of their own",
        )
    return image[..., 0] if image.shape[2] == 1 else image


def _keeps_suffix(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES
