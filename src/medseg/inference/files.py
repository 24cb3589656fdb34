"""Predicting many files: streaming, resumable, and not stopped by a bad one."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medseg.data.case import Case
from medseg.data.io import pages, write_mask
from medseg.data.io.volume import read_header, write_mask_like, written_suffix
from medseg.data.labels import decode_mask
from medseg.data.slices import SLICE, Stack, gather, volume_of
from medseg.data.source import Source
from medseg.errors import DataError, MedsegError
from medseg.files import atomic_path, write_text
from medseg.inference.bundle import Postprocessing
from medseg.inference.inputs import MANIFEST, find_inputs
from medseg.inference.predictor import Prediction, Predictor
from medseg.report.overlay import draw_contours

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class PredictOptions:
    """What is written for each image, and how it is computed."""

    tta: bool = False
    overlay: bool = False
    probabilities: bool = False
    max_ram: int | None = None
    """Bytes that the process may hold while it predicts; of models of volumes only."""


@dataclass
class PredictionReport:
    """What happened to each input; a volume counts once.

    Attributes:
        written: images predicted in this call.
        skipped: images whose mask was already there.
        failed: unreadable images, with the reason.
    """

    written: int = 0
    skipped: int = 0
    failed: list[tuple[Source, str]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Image:
    """What gets one mask file: a picture, or all slices of a volume.

    Attributes:
        name: of the mask, below the output folder, without suffix.
        source: as reported.
        parts: a picture, or the slices in order.
        volume: the files of the volume; None for a picture, and for pictures that are the slices
            of one.
        suffix: of the mask.
    """

    name: str
    source: Source
    parts: tuple[Source, ...]
    volume: tuple[Path, ...] | None = None
    suffix: str = ".png"

    @property
    def stacked(self) -> bool:
        """Whether its mask is written once all slices are there."""
        return isinstance(self.source, Stack) or self.volume is not None

    def part_name(self, index: int) -> str:
        """Of what is written for each slice."""
        digits = max(3, len(str(len(self.parts) - 1)))
        return self.name if len(self.parts) == 1 else f"{self.name}{SLICE}{index:0{digits}}"


def _images(found: Mapping[str, Source], pictures: str | None) -> list[_Image]:
    """Put the slices of each volume together again.

    Args:
        found: by name.
        pictures: which pictures are slices, as in :func:`gather`.

    Raises:
        DataError: only some slices of a volume are there.
    """
    images = []
    cases = [Case(name, source) for name, source in found.items()]
    for whole in gather(cases, pictures=pictures):
        source = whole.image
        files = volume_of(source)
        if files is None and isinstance(source, Stack):
            suffix = pages.WRITTEN
            images.append(_Image(whole.id, source, source.slices, None, suffix))
            continue
        if files is None:
            images.append(_Image(whole.id, source, (source,)))
            continue
        parts = source.slices if isinstance(source, Stack) else (source,)
        count = read_header(files).num_slices
        if len(parts) != count:
            raise DataError(
                files[0],
                f"only {len(parts)} of its {count} slices are to be predicted",
                "Name the whole volume",
            )
        images.append(_Image(whole.id, source, parts, files, written_suffix(files)))
    return images


class _Volume:
    """The mask of a volume while its slices come in."""

    def __init__(self, image: _Image) -> None:
        self.image = image
        self.slices: dict[int, NDArray[np.uint8]] = {}
        self.writing: list[Future[None]] = []

    @property
    def complete(self) -> bool:
        return len(self.slices) == len(self.image.parts)

    def takes(self, classes: NDArray[np.uint8]) -> bool:
        """Whether a slice has the size of those that are there."""
        return all(classes.shape == each.shape for each in islice(self.slices.values(), 1))

    def classes(self) -> NDArray[np.uint8]:
        return np.stack([self.slices[index] for index in range(len(self.image.parts))])


@dataclass(frozen=True)
class _Read:
    """A picture or slice on its way: decoded, pre-processed."""

    of: _Image
    index: int
    image: NDArray[np.uint8]
    prepared: NDArray[Any]


def predict_files(
    model: Predictor,
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    options: PredictOptions = PredictOptions(),
    layout: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PredictionReport:
    """Write a mask for every image, in the image's own size, with the training masks' values.

    ``OUT/name.png`` is the mask, ``OUT/overlay/name.png`` a contour picture,
    ``OUT/probabilities/name.npz`` holds ``probabilities`` ``(K, H, W)`` float16. The mask of a
    volume is a volume on the same grid: ``OUT/name.nii.gz``, ``.nrrd``, ``.mha`` or ``.tif``, and
    ``.nii.gz`` for a DICOM series; contours and probabilities are those of its slices,
    ``OUT/overlay/name/slice_012.png``. Images are read and masks written in the background while
    the network runs; a few are in memory at a time. Masks that are already there are not made
    again.

    Args:
        model: from :func:`medseg.load`.
        inputs: image files, folders, dataset folders, or patterns.
        output: folder, made when missing.
        options: what to write and how.
        layout: how dataset folders lie on disk, where it cannot be recognised.
        overwrite: make masks again that are already there.
        progress: called with (done, total) pictures and slices.

    Returns:
        Counts, and the files that could not be read.

    Raises:
        DataError: an input does not exist, two would get the same name, or a mask would replace
            an image, or a file that is no earlier prediction.
        MedsegError: the output cannot be written, or holds masks of another model.
    """
    return predict_images(
        model,
        find_inputs(inputs, layout=layout, channels=model.manifest.preprocessing.channels),
        output,
        options=options,
        overwrite=overwrite,
        progress=progress,
    )


def predict_images(
    model: Predictor,
    found: Mapping[str, Source],
    output: str | Path,
    *,
    options: PredictOptions = PredictOptions(),
    overwrite: bool = False,
    slices: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PredictionReport:
    """:func:`predict_files` for images whose masks' names are already known.

    ``slices`` says for a model of images which pictures are slices of volumes, as in
    :func:`medseg.data.slices.gather`: they get one mask. A model of volumes knows it.
    """
    model.check_ready()
    folder = Path(output)
    if model.manifest.volume is not None:
        slices = model.manifest.picture_slices
    images = _images(found, slices)
    if model.labels.rgb and any(image.volume for image in images):
        raise DataError(
            next(image.source for image in images if image.volume),
            "is a volume, and the model's masks hold colours, which no volume does",
            "Train with masks of class values",
        )
    if options.max_ram is not None and model.manifest.volume is None:
        raise MedsegError(
            "--max-ram",
            "it is for models of volumes, and this one takes pictures",
            "Leave it out: pictures are predicted one by one",
        )
    _protect_what_is_there(folder, images, options)
    _claim(folder, model, options, overwrite)
    report = PredictionReport()
    todo = [
        image
        for image in images
        if overwrite
        or not model.fixed_by_image
        or not all(p.is_file() for p in _outputs(folder, image, options))
    ]
    report.skipped = len(images) - len(todo)
    total = sum(len(image.parts) for image in images)
    done = total - sum(len(image.parts) for image in todo)
    if progress is not None:
        progress(done, total)
    if model.manifest.volume is not None:
        _predict_volumes(model, todo, folder, options, report, done, total, progress)
        return report

    with ThreadPoolExecutor(2) as readers, ThreadPoolExecutor(2) as writers:

        def read(item: tuple[_Image, int]) -> _Read:
            of, index = item
            picture = of.parts[index].read_image(max_pixels=model.max_pixels)
            return _Read(of, index, picture, model.prepare(picture))

        writing: deque[Future[None]] = deque()
        volumes: dict[str, _Volume] = {}
        failed: set[str] = set()
        batch: list[_Read] = []

        def keep(each: _Read, classes: NDArray[np.uint8], future: Future[None]) -> None:
            """A slice of a volume; with the last one, the volume is written."""
            if each.of.name in failed:
                return
            volume = volumes.setdefault(each.of.name, _Volume(each.of))
            if not volume.takes(classes):
                failed.add(each.of.name)
                del volumes[each.of.name]
                report.failed.append((each.of.source, "its slices differ in size. Resize them"))
                return
            volume.slices[each.index] = classes
            volume.writing.append(future)
            if volume.complete:
                del volumes[each.of.name]
                for written in volume.writing:
                    written.result()
                writing.append(writers.submit(_write_volume, model, folder, volume))
                report.written += 1

        def flush() -> None:
            nonlocal done
            predictions = model.infer(
                [each.prepared for each in batch],
                [(each.image.shape[0], each.image.shape[1]) for each in batch],
                tta=options.tta,
                with_probabilities=options.probabilities,
            )
            for each, found in zip(batch, predictions, strict=True):
                if len(writing) > 2 * model.batch_size + 4:
                    writing.popleft().result()
                future = writers.submit(_write, model, folder, each, found, options)
                writing.append(future)
                if each.of.stacked:
                    keep(each, found.classes, future)
                else:
                    report.written += 1
            done += len(batch)
            batch.clear()
            if progress is not None:
                progress(done, total)

        work = [(image, index) for image in todo for index in range(len(image.parts))]
        for (of, _), future in _ahead(readers, read, work, 2 * model.batch_size + 2):
            try:
                picture = future.result()
            except DataError as error:
                done += 1
                if of.name not in failed:
                    failed.add(of.name)
                    volumes.pop(of.name, None)
                    report.failed.append((of.source, _reason(of, error)))
                continue
            batch.append(picture)
            if len(batch) == model.batch_size:
                flush()
        if batch:
            flush()
        for written in writing:
            written.result()
    if progress is not None:
        progress(total, total)
    return report


def _reason(image: _Image, error: DataError) -> str:
    known = error.where in (str(image.source), str(image.source.path))
    where = "" if known else f"{error.where}: "
    return f"{where}{error.found}. {error.remedy}"


def _predict_volumes(
    model: Predictor,
    images: Sequence[_Image],
    folder: Path,
    options: PredictOptions,
    report: PredictionReport,
    done: int,
    total: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """:func:`predict_images` with a model of volumes: one after the other, so that one is in
    memory at a time."""
    from medseg.inference.volumes.geometry import as_shown, write_classes
    from medseg.inference.volumes.predictor import VolumeOptions, VolumePredictor

    assert isinstance(model, VolumePredictor)
    how = VolumeOptions(options.tta, options.probabilities, options.max_ram, options.overlay)
    for image in images:
        count = len(image.parts)

        def advance(slices: int, of: int, done: int = done, count: int = count) -> None:
            if progress is not None:
                progress(done + slices * count // of, total)

        try:
            found = model.predict_source(image.source, how, progress=advance)
            plane = model.settings.plane
            shown = as_shown(found.classes, image.volume, plane)
            for index, part in enumerate(image.parts if options.overlay else ()):
                picture = part.read_image(max_pixels=model.max_pixels)
                _write_overlay(model, folder, image.part_name(index), picture, shown[index])
            if found.probabilities is not None:
                shares = as_shown(np.moveaxis(found.probabilities, 0, -1), image.volume, plane)
                for index, share in enumerate(np.moveaxis(shares, -1, 1)):
                    _write_probabilities(folder, image.part_name(index), share)
            write_classes(folder / f"{image.name}{image.suffix}", shown, model.labels, image.volume)
            report.written += 1
        except DataError as error:
            report.failed.append((image.source, _reason(image, error)))
        done += count
        if progress is not None:
            progress(done, total)


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T], depth: int
) -> Iterator[tuple[T, Future[R]]]:
    """Futures of ``work`` over ``items`` in order, at most ``depth`` of them ahead."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    source = iter(items)
    for item in islice(source, depth):
        waiting.append((item, pool.submit(work, item)))
    while waiting:
        yield waiting.popleft()
        for item in islice(source, 1):
            waiting.append((item, pool.submit(work, item)))


def _outputs(folder: Path, image: _Image, options: PredictOptions) -> list[Path]:
    paths = [folder / f"{image.name}{image.suffix}"]
    for index in range(len(image.parts)):
        name = image.part_name(index)
        if options.overlay:
            paths.append(folder / "overlay" / f"{name}.png")
        if options.probabilities:
            paths.append(folder / "probabilities" / f"{name}.npz")
    return paths


def _protect_what_is_there(folder: Path, images: Sequence[_Image], options: PredictOptions) -> None:
    inputs = {path.resolve() for image in images for path in image.source.files}
    ours = (folder / MANIFEST).exists()
    for image in images:
        for path in _outputs(folder, image, options):
            if path.resolve() in inputs:
                raise DataError(path, "its mask would replace it", "Choose another -o")
            if not ours and path.exists():
                raise DataError(
                    path, "it is there, and is no prediction of medseg's", "Choose another -o"
                )


def _write(
    model: Predictor,
    folder: Path,
    read: _Read,
    found: Prediction,
    options: PredictOptions,
) -> None:
    """Write what is asked for of a picture or slice, and the mask of a picture."""
    name = read.of.part_name(read.index)
    if options.overlay:
        _write_overlay(model, folder, name, read.image, found.classes)
    if found.probabilities is not None:
        _write_probabilities(folder, name, found.probabilities)
    # The mask comes last: a call that finds it takes the image for done.
    if not read.of.stacked:
        write_mask(folder / f"{name}.png", decode_mask(found.classes, model.labels))


def _write_overlay(
    model: Predictor,
    folder: Path,
    name: str,
    image: NDArray[np.uint8],
    classes: NDArray[np.uint8],
) -> None:
    with atomic_path(folder / "overlay" / f"{name}.png") as part:
        Image.fromarray(draw_contours(image, classes, labels=model.labels)).save(part)


def _write_probabilities(folder: Path, name: str, probabilities: NDArray[np.floating[Any]]) -> None:
    with atomic_path(folder / "probabilities" / f"{name}.npz") as part:
        values = probabilities.astype(np.float16)
        with part.open("wb") as file:
            np.savez_compressed(file, probabilities=values)


def _write_volume(model: Predictor, folder: Path, volume: _Volume) -> None:
    image = volume.image
    path = folder / f"{image.name}{image.suffix}"
    values = decode_mask(volume.classes(), model.labels)
    if image.volume is None:
        pages.write_mask(path, values.transpose(2, 1, 0), ())
    else:
        write_mask_like(path, values, image.volume)


def _claim(folder: Path, model: Predictor, options: PredictOptions, overwrite: bool) -> None:
    """Note in the output folder which model fills it; refuse to mix two models' masks.

    What computes may differ from call to call: it is noted, and the masks are the same.
    """
    path = folder / MANIFEST
    labels = model.labels
    manifest = model.manifest
    entry: dict[str, Any] = {
        "model": manifest.weights_sha256,
        "system": manifest.system,
        "tta": options.tta,
        "threshold": manifest.threshold,
        "labels": {
            label.name: f"#{label.value:06x}" if labels.rgb else label.value
            for label in labels.labels
        },
    }
    # Notes written before models had these say nothing of them.
    if model.precision != "fp32":
        entry["precision"] = model.precision
    if manifest.temperature != 1:
        entry["temperature"] = manifest.temperature
    if manifest.postprocessing != Postprocessing():
        entry["postprocessing"] = manifest.postprocessing.model_dump()
    if manifest.sentences:
        entry["sentences"] = list(manifest.sentences)
    engines = {model.engine}
    if path.is_file() and not overwrite:
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            engines |= set(before.pop("engines", ["torch"]))
        except (OSError, ValueError, AttributeError, TypeError):
            before = None
        if before != entry:
            raise MedsegError(
                folder,
                "it holds masks of another model or made with other options",
                "Choose another -o, or --overwrite them",
            )
    entry["engines"] = sorted(engines)
    write_text(path, json.dumps(entry, indent=1, ensure_ascii=False))
