"""Explaining many images: streaming, resumable, and not stopped by a bad one."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.layouts.names import nfc
from medseg.data.slices import SLICE, Stack
from medseg.data.source import Source
from medseg.errors import DataError, MedsegError
from medseg.explain.explanation import CHECKS, Explainer, Explanation
from medseg.explain.page import write_page
from medseg.explain.picture import draw
from medseg.explain.scores import MOST_ALIKE
from medseg.explain.target import NothingToExplainError
from medseg.files import atomic_path, write_text
from medseg.inference.inputs import find_inputs
from medseg.metrics.pairing import DEFAULT_READING, find_truths, read_truth

TABLE = "explanations.csv"
RECORD = "explanations.json"
PAGE = "index.html"

_SAVE_EVERY = 20


@dataclass
class ExplainReport:
    """What happened to each image.

    Attributes:
        written: explained in this call.
        skipped: explained before, or found to have nothing to explain.
        failing: maps, of this call and before, that fail the sanity check.
        nothing: images without anything to explain, with the reason.
        without_truth: images for which no true mask was found.
        failed: unreadable images or true masks, with the reason.
    """

    written: int = 0
    skipped: int = 0
    failing: int = 0
    nothing: list[tuple[Source, str]] = field(default_factory=list)
    without_truth: list[Source] = field(default_factory=list)
    failed: list[tuple[Source, str]] = field(default_factory=list)


def explain_files(
    explainer: Explainer,
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    masks: str | Path | None = None,
    save_maps: bool = False,
    layout: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ExplainReport:
    """Explain every image: ``OUT/name.png``, a table of scores and a page.

    ``OUT/explanations.csv`` has a row for each image, ``OUT/explanations.json`` the same with how
    it was made, ``OUT/index.html`` pictures and scores. Images explained before are skipped.

    Args:
        explainer: the model and how to explain it.
        inputs: image files, folders, dataset folders, or patterns; of a volume, each slice, or for
            a model of volumes the one with most of the class.
        output: folder, made when missing.
        masks: a dataset, or a folder of true masks named like the images, for the pointing game.
        save_maps: also write ``OUT/maps/name.npz`` with ``map`` (H, W) float16.
        layout: how dataset folders lie on disk, where it cannot be recognised.
        overwrite: explain again what is there already.
        progress: called with (done, total) images.

    Raises:
        DataError: an input does not exist, no true mask belongs to an image, or a picture would
            replace an image, or a file that is no earlier explanation.
        MedsegError: the output cannot be written, or holds explanations made in another way.
    """
    folder = Path(output)
    channels = explainer.model.manifest.preprocessing.channels
    images = explainer.sources(find_inputs(inputs, layout=layout, channels=channels))
    truths = None if masks is None else _find_truths(Path(masks), images, layout)
    how = _how(explainer, masks)
    rows = _earlier_rows(folder, how, overwrite)
    _protect_what_is_there(folder, images)
    report = ExplainReport()
    unsaved = 0
    try:
        for done, (name, source) in enumerate(images.items()):
            if progress is not None:
                progress(done, len(images))
            if name in rows and not overwrite and _is_done(folder, name, rows[name], save_maps):
                report.skipped += 1
                continue
            try:
                truth = truths.get(name) if truths is not None else None
                if truths is not None and truth is None:
                    report.without_truth.append(source)
                row = _explain_one(explainer, folder, name, source, truth, save_maps)
                report.written += 1
            except NothingToExplainError as error:
                row = {"status": f"nothing to explain: {error}"}
                report.nothing.append((source, str(error)))
            except DataError as error:
                report.failed.append((source, str(error)))
                continue
            rows[name] = {"case": name, **row}
            unsaved += 1
            if unsaved == _SAVE_EVERY:
                _save(folder, how, rows)
                unsaved = 0
    finally:
        # Also when it is interrupted, so that what is done need not be done again.
        if rows:
            _save(folder, how, rows)
    if progress is not None:
        progress(len(images), len(images))
    report.failing = sum(row.get("sanity_check") == "failed" for row in rows.values())
    if rows:
        pictures = {name: _picture(folder, name) for name in rows}
        write_page(
            folder / PAGE,
            [_full(row) for row in rows.values()],
            {name: path for name, path in pictures.items() if path.is_file()},
            title=f"What {explainer.model.manifest.system} looked at",
            facts={key: str(value) for key, value in how.items() if value is not None},
        )
    return report


def _explain_one(
    explainer: Explainer,
    folder: Path,
    name: str,
    source: Source,
    mask: Source | None,
    save_maps: bool,
) -> dict[str, Any]:
    """Write the picture of one image, and return its row."""
    truth = None
    if mask is not None:
        truth = read_truth(mask, explainer.model.labels, DEFAULT_READING)
    image, explanation = explainer.explain_source(source, truth)
    if save_maps:
        with atomic_path(_map(folder, name)) as part, part.open("wb") as file:
            np.savez_compressed(file, map=explanation.map.astype(np.float16))
    where = None if truth is None else _where(truth, explanation, explainer)
    # The picture comes last: a call that finds it takes the image for done.
    with atomic_path(_picture(folder, name)) as part:
        part.write_bytes(draw(image, explanation, name=name, truth=where))
    return {"status": "ok", **{key: _plain(value) for key, value in explanation.row().items()}}


def _where(
    truth: NDArray[np.uint8], explanation: Explanation, explainer: Explainer
) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = truth == explainer.model.labels.names.index(explanation.label)
    return found


def _picture(folder: Path, name: str) -> Path:
    return folder / f"{name}.png"


def _map(folder: Path, name: str) -> Path:
    return folder / "maps" / f"{name}.npz"


def _is_done(folder: Path, name: str, row: Mapping[str, Any], save_maps: bool) -> bool:
    if row["status"] != "ok":
        return True
    return _picture(folder, name).is_file() and (not save_maps or _map(folder, name).is_file())


def _find_truths(masks: Path, images: Mapping[str, Source], layout: str) -> dict[str, Source]:
    """The true mask of each image that has one.

    Raises:
        DataError: none has.
    """
    offered = {}
    for truth in find_truths(masks, layout=layout)[0]:
        for form in truth.names:
            offered[nfc(form)] = truth.mask
    found = {}
    for name in images:
        volume, _, number = name.rpartition(SLICE)
        stack = offered.get(nfc(volume))
        if nfc(name) in offered:
            found[name] = offered[nfc(name)]
        elif isinstance(stack, Stack) and number.isdecimal() and int(number) < len(stack.slices):
            found[name] = stack.slices[int(number)]
    if not found:
        raise DataError(
            masks,
            f"no mask has the name of an image: images such as '{next(iter(images))}', masks such "
            f"as '{next(iter(offered))}'",
            "Name each true mask like its image",
        )
    return found


def _how(explainer: Explainer, masks: str | Path | None) -> dict[str, Any]:
    """What makes explanations comparable; those of another kind are not mixed with them."""
    model, labels = explainer.model, explainer.model.labels
    return {
        "system": model.manifest.system,
        "model": model.manifest.weights_sha256,
        "method": explainer.method,
        "layer": explainer.layer,
        "steps": explainer.steps,
        "class": None if explainer.index is None else labels.names[explainer.index],
        "region": None if explainer.box is None else ",".join(map(str, explainer.box)),
        "at": None if explainer.at is None else ",".join(map(str, explainer.at)),
        "truth": None if masks is None else str(masks),
        "seed": explainer.seed,
        "random networks": CHECKS,
        "sanity check fails above": MOST_ALIKE,
    }


def _earlier_rows(folder: Path, how: dict[str, Any], overwrite: bool) -> dict[str, dict[str, Any]]:
    path = folder / RECORD
    if overwrite or not path.is_file():
        return {}
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        same = before["how"] == how
        rows = {str(row["case"]): dict(row) for row in before["images"]}
        complete = all("status" in row for row in rows.values())
    except (OSError, ValueError, KeyError, TypeError):
        same = complete = False
        rows = {}
    if not (same and complete):
        raise MedsegError(
            folder,
            "it holds explanations of another model or made with other options",
            "Choose another -o, or --overwrite them",
        )
    return rows


def _protect_what_is_there(folder: Path, images: Mapping[str, Source]) -> None:
    inputs = {path.resolve() for source in images.values() for path in source.files}
    ours = (folder / RECORD).exists()
    for name in images:
        path = _picture(folder, name)
        if path.resolve() in inputs:
            raise DataError(path, "its explanation would replace it", "Choose another -o")
        if not ours and path.exists():
            raise DataError(
                path, "it is there, and is no explanation of medseg's", "Choose another -o"
            )


def _save(folder: Path, how: dict[str, Any], rows: Mapping[str, dict[str, Any]]) -> None:
    record = {"how": how, "images": list(rows.values())}
    write_text(folder / RECORD, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False))
    table = io.StringIO()
    writer = csv.DictWriter(table, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {key: f"{v:.6g}" if isinstance(v, float) else v for key, v in _full(row).items()}
        for row in rows.values()
    )
    write_text(folder / TABLE, table.getvalue())


def _full(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with all columns; None where there is no number."""
    return {name: row.get(name) for name in _COLUMNS}


def _plain(value: Any) -> Any:
    """As JSON can hold it: null for what is undefined."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


_COLUMNS = (
    "case", "status", "class", "method", "layer", "region_pixels", "probability",
    "deletion", "deletion_shuffled", "insertion", "insertion_shuffled",
    "energy", "pointing", "area", "truth_energy", "truth_pointing", "truth_area",
    "random_correlation", "random_ssim", "completeness_error", "sanity_check", "warnings",
)  # fmt: skip
