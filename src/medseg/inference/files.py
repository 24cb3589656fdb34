"""Predicting many files: streaming, resumable, and not stopped by a bad one."""

from __future__ import annotations

import glob
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from medseg.data.io import is_image_file, write_mask
from medseg.data.labels import decode_mask
from medseg.data.layouts import is_dataset, open_dataset
from medseg.data.source import File, Source
from medseg.errors import DataError, MedsegError
from medseg.files import atomic_path, write_text
from medseg.inference.predictor import Model
from medseg.report.overlay import draw_contours

MANIFEST = "predictions.json"

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class PredictOptions:
    """What is written for each image, and how it is computed."""

    tta: bool = False
    overlay: bool = False
    probabilities: bool = False


@dataclass
class PredictionReport:
    """What happened to each input.

    Attributes:
        written: images predicted in this call.
        skipped: images whose mask was already there.
        failed: unreadable images, with the reason.
    """

    written: int = 0
    skipped: int = 0
    failed: list[tuple[Source, str]] = field(default_factory=list)


def find_inputs(inputs: Sequence[str | Path], *, layout: str = "auto") -> dict[str, Source]:
    """Images by the name, without suffix, of the mask to write.

    A file is named by its stem; images in a folder keep their place below it, and folders in it
    that hold predictions are left out; a dataset folder contributes its images under their case
    ids; a pattern (``*.png``) is expanded.

    Raises:
        DataError: nothing found for an input, or two images would get the same mask.
    """
    found: dict[str, Source] = {}
    for item in inputs:
        for name, source in _expand(str(item), layout):
            if name in found and found[name] != source:
                raise DataError(
                    source,
                    f"its mask would have the same name as that of {found[name]}",
                    "Predict them into different output folders",
                )
            found[name] = source
    return found


def _expand(item: str, layout: str) -> list[tuple[str, Source]]:
    path = Path(item)
    if path.is_file() and path.suffix.lower() != ".csv":
        return [(path.stem, File(path))]
    if layout != "auto" or is_dataset(path):
        dataset = open_dataset(path, layout=layout)
        for problem in dataset.problems:
            # Masks do not matter here, but an image that was left out does.
            if problem.severity == "error" and problem.kind != "mask-without-image":
                raise DataError(problem.where, problem.found, problem.remedy)
        return [(case.id, case.image) for case in dataset.cases]
    if path.exists():
        predictions = {note.parent for note in path.rglob(MANIFEST)} - {path}
        images = sorted(
            p for p in path.rglob("*") if is_image_file(p) and predictions.isdisjoint(p.parents)
        )
        if not images:
            raise DataError(path, "there are no images in it", "Name a folder with images")
        return [(p.relative_to(path).with_suffix("").as_posix(), File(p)) for p in images]
    matches = sorted(Path(m) for m in glob.glob(item, recursive=True) if is_image_file(Path(m)))
    if not matches:
        raise DataError(item, "there is no such image or folder", "Check the path")
    return [(p.stem, File(p)) for p in matches]


@dataclass(frozen=True)
class _Read:
    """An image on its way: decoded, pre-processed."""

    name: str
    image: NDArray[np.uint8]
    tensor: Tensor


def predict_files(
    model: Model,
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
    ``OUT/probabilities/name.npz`` holds ``probabilities`` ``(K, H, W)`` float16. Images are read
    and masks written in the background while the network runs; a few are in memory at a time.
    Masks that are already there are not made again.

    Args:
        model: from :func:`medseg.load`.
        inputs: image files, folders, dataset folders, or patterns.
        output: folder, made when missing.
        options: what to write and how.
        layout: how dataset folders lie on disk, where it cannot be recognised.
        overwrite: make masks again that are already there.
        progress: called with (done, total).

    Returns:
        Counts, and the files that could not be read.

    Raises:
        DataError: an input does not exist, two would get the same name, or a mask would replace
            an image, or a file that is no earlier prediction.
        MedsegError: the output cannot be written, or holds masks of another model.
    """
    return predict_images(
        model,
        find_inputs(inputs, layout=layout),
        output,
        options=options,
        overwrite=overwrite,
        progress=progress,
    )


def predict_images(
    model: Model,
    found: Mapping[str, Source],
    output: str | Path,
    *,
    options: PredictOptions = PredictOptions(),
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PredictionReport:
    """:func:`predict_files` for images whose masks' names are already known."""
    folder = Path(output)
    _protect_what_is_there(folder, found, options)
    _claim(folder, model, options, overwrite)
    report = PredictionReport()
    todo = {
        name: source
        for name, source in found.items()
        if overwrite or not all(p.is_file() for p in _outputs(folder, name, options))
    }
    report.skipped = len(found) - len(todo)
    if progress is not None:
        progress(report.skipped, len(found))

    with ThreadPoolExecutor(2) as readers, ThreadPoolExecutor(2) as writers:

        def read(item: tuple[str, Source]) -> _Read:
            name, source = item
            image = source.read_image(max_pixels=model.max_pixels)
            return _Read(name, image, model.preprocess(image))

        writing: deque[Future[None]] = deque()
        batch: list[_Read] = []

        def flush() -> None:
            tensors = torch.stack([each.tensor for each in batch])
            for each, logits in zip(batch, model.logits(tensors, tta=options.tta), strict=True):
                if len(writing) > 2 * model.batch_size + 4:
                    writing.popleft().result()
                # Only numpy goes to the writers: PyTorch would start threads in each of them.
                full = model.resize_logits(logits, (each.image.shape[0], each.image.shape[1]))
                values = model.probabilities(full) if options.probabilities else None
                found_classes = model.classes(full)
                writing.append(
                    writers.submit(_write, model, folder, each, found_classes, values, options)
                )
            report.written += len(batch)
            batch.clear()
            if progress is not None:
                progress(report.skipped + report.written + len(report.failed), len(found))

        for (_, source), future in _ahead(readers, read, todo.items(), 2 * model.batch_size + 2):
            try:
                batch.append(future.result())
            except DataError as error:
                report.failed.append((source, f"{error.found}. {error.remedy}"))
                continue
            if len(batch) == model.batch_size:
                flush()
        if batch:
            flush()
        for written in writing:
            written.result()
    if progress is not None:
        progress(len(found), len(found))
    return report


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


def _outputs(folder: Path, name: str, options: PredictOptions) -> list[Path]:
    paths = [folder / f"{name}.png"]
    if options.overlay:
        paths.append(folder / "overlay" / f"{name}.png")
    if options.probabilities:
        paths.append(folder / "probabilities" / f"{name}.npz")
    return paths


def _protect_what_is_there(
    folder: Path, found: Mapping[str, Source], options: PredictOptions
) -> None:
    images = {path.resolve() for source in found.values() for path in source.files}
    ours = (folder / MANIFEST).exists()
    for name in found:
        for path in _outputs(folder, name, options):
            if path.resolve() in images:
                raise DataError(path, "its mask would replace it", "Choose another -o")
            if not ours and path.exists():
                raise DataError(
                    path, "it is there, and is no prediction of medseg's", "Choose another -o"
                )


def _write(
    model: Model,
    folder: Path,
    read: _Read,
    classes: NDArray[np.uint8],
    probabilities: NDArray[np.float32] | None,
    options: PredictOptions,
) -> None:
    if options.overlay:
        path = folder / "overlay" / f"{read.name}.png"
        with atomic_path(path) as part:
            Image.fromarray(draw_contours(read.image, classes, labels=model.labels)).save(part)
    if probabilities is not None:
        with atomic_path(folder / "probabilities" / f"{read.name}.npz") as part:
            values = probabilities.astype(np.float16)
            with part.open("wb") as file:
                np.savez_compressed(file, probabilities=values)
    # The mask comes last: a call that finds it takes the image for done.
    write_mask(folder / f"{read.name}.png", decode_mask(classes, model.labels))


def _claim(folder: Path, model: Model, options: PredictOptions, overwrite: bool) -> None:
    """Note in the output folder which model fills it; refuse to mix two models' masks."""
    path = folder / MANIFEST
    labels = model.labels
    entry = {
        "model": model.manifest.weights_sha256,
        "system": model.manifest.system,
        "tta": options.tta,
        "threshold": model.manifest.threshold,
        "labels": {
            label.name: f"#{label.value:06x}" if labels.rgb else label.value
            for label in labels.labels
        },
    }
    if path.is_file() and not overwrite:
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = None
        if before != entry:
            raise MedsegError(
                folder,
                "it holds masks of another model or made with other options",
                "Choose another -o, or --overwrite them",
            )
    write_text(path, json.dumps(entry, indent=1, ensure_ascii=False))
