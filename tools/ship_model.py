"""Turn a run into a model that comes with medseg.

    python tools/ship_model.py RUN NAME DATA

NAME is one of src/medseg/zoo/entries.py, DATA what RUN was trained on. The kernels are rounded to
16 bits, and from then on only the rounded model counts: its masks are the golden cases, and its
test part is scored here, as `medseg evaluate` does. A graph beside the weights lets ONNX Runtime
compute it where PyTorch is not installed. Writes src/medseg/zoo/models/NAME.medseg and,
where the images' licence lets them be passed on, test cases with their scores below
tests/zoo/cases/NAME. Add NAME to SHIPPED in src/medseg/zoo/__init__.py afterwards.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as to_safetensors

from medseg import zoo
from medseg.data.catalogue import load_entry
from medseg.data.layouts import open_dataset
from medseg.data.source import File
from medseg.engine.golden import margin
from medseg.engine.openings import Opening, log_opening, read_openings
from medseg.errors import DataError, MedsegError, ModelError
from medseg.export.graph import to_onnx_beside_weights
from medseg.files import write_text
from medseg.inference.bundle import (
    Golden,
    Manifest,
    read_bundle,
    read_golden,
    read_manifest,
    write_bundle,
)
from medseg.inference.network import Model, load_network
from medseg.metrics.evaluation import Evaluation
from medseg.report.card import model_card
from medseg.scoring import evaluate
from medseg.zoo.entries import Entry, load

MOST_BYTES = 5_000_000
"""Of one model in the package."""

GOLDEN, GOLDEN_SIDE = 3, 224
"""Golden cases, and the pixels of the longer side of their images."""

CASES = 4
"""Images of the test part that come with the tests."""

# A mask must be the same on machines whose arithmetic differs in the last digits.
_DECIDED = 1e-4
_TESTS = Path(__file__).parents[1] / "tests" / "zoo" / "cases"
_MEMORY = ("recipe.yaml", "split.csv", "data.json")


def ship(
    run: Path, name: str, data: Path, *, models: Path = zoo.FOLDER, cases: Path = _TESTS
) -> Evaluation:
    """Write the model ``name`` and its test cases.

    Args:
        run: a finished run.
        name: of an entry in :mod:`medseg.zoo.entries`.
        data: the dataset of the run.
        models: folder of the model.
        cases: folder of the folder with the test cases.

    Returns:
        The scores of the test part.

    Raises:
        MedsegError: the run is not one, leaks, or makes too large a file.
    """
    entry = load(name)
    if not all((run / each).is_file() for each in (*_MEMORY, "model.medseg")):
        raise ModelError(run, "it is no finished run", "Name a folder that `medseg train` left")
    source = run / "model.medseg"
    bundle = read_bundle(source)
    weights = rounded(bundle.weights)
    manifest = _described(bundle.manifest, entry, weights)
    with tempfile.TemporaryDirectory(prefix="medseg-ship-") as scratch:
        again = Path(scratch)
        for each in _MEMORY:
            shutil.copyfile(run / each, again / each)
        write_bundle(again / "model.medseg", manifest, weights)
        model = load_network(again, device="cpu")
        golden = golden_cases(model, read_golden(source)) if entry.with_images else ()
        scored = _test(again, data, manifest)
        log_opening(
            run,
            Opening(
                scored.truth,
                scored.counts().cases,
                bundle.manifest.weights_sha256,
                str(manifest.data.get("hash", "")),
            ),
        )
        manifest = manifest.model_copy(update={"scores": {**manifest.scores, **_scores(scored)}})
        test = json.loads(scored.to_json()) | {"test_openings": len(read_openings(run))}
        told = write_bundle(again / "unread.medseg", manifest, weights, golden=golden)
        card = model_card(told, epochs=_epochs(run), test=test)
        made = again / f"{name}.medseg"
        write_bundle(made, manifest, weights, card=card, golden=golden)
        graph = to_onnx_beside_weights(load_network(made, device="cpu"))
        write_bundle(made, manifest, weights, card=card, golden=golden, graph=graph)
        if made.stat().st_size > MOST_BYTES:
            raise ModelError(
                name,
                f"it has {made.stat().st_size:,} bytes, and {MOST_BYTES:,} may be shipped",
                "Train a smaller network, or with fewer golden cases",
            )
        models.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made, models / made.name)
    if entry.with_images:
        write_cases(models / f"{name}.medseg", entry, data, scored, cases / name)
    else:
        shutil.rmtree(cases / name, ignore_errors=True)
    return scored


def rounded(weights: bytes) -> bytes:
    """Safetensors with kernels in 16 bits. Biases, norms and what they have counted stay as they
    are: they are few, and a variance may be too small for 16 bits.

    Raises:
        ModelError: a kernel holds a number that 16 bits do not.
    """
    tensors = load_safetensors(weights)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and tensor.ndim > 1:
            tensors[name] = tensor.half()
            if not torch.isfinite(tensors[name]).all():
                raise ModelError(name, "it holds numbers above 65,504", "Train it again")
    return to_safetensors(tensors)


def _described(manifest: Manifest, entry: Entry, weights: bytes) -> Manifest:
    """The manifest with what the entry says, and of the rounded weights."""
    data = load_entry(entry.dataset)
    # Warnings name files and folders of where it was trained, and so may what it started from.
    facts = {key: value for key, value in manifest.data.items() if key != "warnings"}
    recipe = dict(manifest.recipe)
    if "init" in facts:
        recipe["init"] = Path(recipe["init"]).name
        facts["init"] = {**facts["init"], "model": recipe["init"]}
    labels = manifest.labels
    if [each.value for each in labels] == [each.value for each in data.labels] or len(labels) == 2:
        # Files that do not name their classes call them foreground, class_1 ...
        labels = tuple(
            ours.model_copy(update={"name": theirs.name})
            for ours, theirs in zip(labels, data.labels, strict=False)
        )
    return manifest.model_copy(
        update={
            "title": entry.title,
            "licence": entry.licence,
            "labels": labels,
            "recipe": recipe,
            "data": {
                **facts,
                "name": data.title,
                "licence": data.licence,
                "attribution": entry.attribution,
            },
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            "golden": (),
            "graph_sha256": None,
        }
    )


def golden_cases(model: Model, stored: Sequence[Golden]) -> tuple[Golden, ...]:
    """At most ``GOLDEN`` of the run's golden images, made smaller, with the masks of ``model``.

    Raises:
        ModelError: every one has a pixel that rounding decides.
    """
    found = []
    for case in stored:
        image = _smaller(case.image)
        size = (image.shape[0], image.shape[1])
        (mask,) = model.infer([model.prepare(image)], [size], with_probabilities=True)
        assert mask.probabilities is not None
        if margin(mask.probabilities, model.manifest.threshold) > _DECIDED:
            found.append(Golden(image, mask.classes))
    if not found:
        raise ModelError(
            "golden cases", f"rounding decides a pixel of each of {len(stored)}",
            "Train with --set predict.golden=10",
        )  # fmt: skip
    return tuple(found[:GOLDEN])


def _smaller(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``(H, W, C)`` of at most ``GOLDEN_SIDE`` pixels a side."""
    height, width, _ = image.shape
    scale = min(1.0, GOLDEN_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    planes = [
        np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR))
        for plane in np.ascontiguousarray(image.transpose(2, 0, 1))
    ]
    return np.stack(planes, axis=2)


def _test(run: Path, data: Path, manifest: Manifest) -> Evaluation:
    """Score the test part.

    Raises:
        MedsegError: something of it is among what was learnt.
    """
    layout = manifest.recipe["data"]["layout"]
    scored = evaluate(data, run, part="test", layout=layout, metrics=("dice",), device="cpu")
    if scored.note:
        raise MedsegError(run, scored.note, "Train it again with another split")
    return replace(scored, truth=f"{manifest.data['name']} (test part)", predictions="")


def _scores(scored: Evaluation) -> dict[str, float]:
    dice = scored.overall["dice"]
    if dice.mean is None or dice.low is None or dice.high is None:
        raise MedsegError("test part", "its Dice has no interval", "Use a larger test part")
    return {
        "test_dice": dice.mean,
        "test_dice_low": dice.low,
        "test_dice_high": dice.high,
        "test_cases": float(scored.counts().cases),
    }


def _epochs(run: Path) -> int:
    return len((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())


def write_cases(model: Path, entry: Entry, data: Path, scored: Evaluation, folder: Path) -> None:
    """Write ``CASES`` images of the test part with masks, licence and scores, as a dataset.

    They are drawn by the hashes of the images, whatever their scores; cases without foreground
    and further ones of a patient are passed over.

    Args:
        model: that is scored on them.
        entry: whose images they are.
        data: the dataset.
        scored: its test part.
        folder: to write.

    Raises:
        DataError: an image is not a PNG or JPEG file of its own.
    """
    manifest = read_manifest(model)
    settings = manifest.recipe["data"]
    dataset = open_dataset(data, layout=settings["layout"], group_pattern=settings["group_pattern"])
    shown = {row.case for row in scored.rows if row.truth_pixels}
    drawn = sorted(
        (case for case in dataset.cases if case.id in shown), key=lambda case: case.image.sha256()
    )
    patients: set[str] = set()
    chosen = []
    for case in drawn:
        if case.patient is None or case.patient not in patients:
            chosen.append(case)
            patients.add(case.patient or case.id)
    shutil.rmtree(folder, ignore_errors=True)
    for place in ("images", "masks"):
        (folder / place).mkdir(parents=True)
    for case in chosen[:CASES]:
        image, name = case.image, case.id.replace("/", "_")
        suffix = image.path.suffix.lower()
        if not isinstance(image, File) or suffix not in (".png", ".jpg", ".jpeg"):
            raise DataError(image.path, "it is no PNG or JPEG file", "Ship it without images")
        assert case.mask is not None
        shutil.copyfile(image.path, folder / "images" / f"{name}{suffix}")
        values = case.mask.read_mask().values
        Image.fromarray(values.astype(np.uint8)).save(folder / "masks" / f"{name}.png")
    labels = {label.name: label.value for label in manifest.labels}
    write_text(folder / "labels.json", json.dumps(labels))
    write_text(folder / "LICENCE.txt", _licence(entry))
    there = evaluate(folder, model, part="all", metrics=("dice",), device="cpu")
    expected: dict[str, Any] = {
        "weights_sha256": manifest.weights_sha256,
        "dice": there.case_means("dice"),
    }
    write_text(folder / "scores.json", json.dumps(expected, indent=1) + "\n")


def _licence(entry: Entry) -> str:
    data = load_entry(entry.dataset)
    return (
        f"Images and masks of {data.title}, {data.url}\n\n"
        f"Licence: {data.licence} ({data.licence_url})\n\n"
        f"{data.citation.authors} ({data.citation.year}), {data.citation.title}, "
        f"{data.citation.venue}, {data.citation.link}\n\n"
        f"Changes: {entry.changes}\n\n"
        "They belong to the test part of the model's split and were not trained on.\n"
    )


def main() -> None:
    """Ship a model, and say what it scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("data", type=Path)
    arguments = parser.parse_args()
    try:
        scored = ship(arguments.run, arguments.name, arguments.data)
    except MedsegError as error:
        sys.exit(f"error: {error}")
    dice = scored.overall["dice"]
    size = (zoo.FOLDER / f"{arguments.name}.medseg").stat().st_size
    print(f"test Dice {dice.mean:.4f} ({dice.low:.4f} to {dice.high:.4f}), {size:,} bytes")
    if arguments.name not in zoo.SHIPPED:
        print(f"add {arguments.name!r} to SHIPPED in src/medseg/zoo/__init__.py")


if __name__ == "__main__":
    main()
