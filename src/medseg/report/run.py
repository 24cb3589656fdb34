"""The report of a run: training curves, scores of one part of its data, and cases to look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from medseg.inference.bundle import Manifest, find_bundle, read_manifest
from medseg.interactions import Interactions, measure_interactions
from medseg.metrics.evaluation import Evaluation
from medseg.report.html import read_cases, write_report
from medseg.scoring import evaluate

INTERACTIONS = 5
"""Clicks on each structure, where a run is scored by interactions."""


def write_run_report(
    run: Path,
    data: Path,
    *,
    part: Literal["val", "test"] = "val",
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, Evaluation]:
    """Score a run on one part of its data, at the images' own size, and write what was found.

    Writes ``report.html``, ``scores/PART.json``, ``scores/PART.csv`` and ``masks/PART/``.

    Args:
        run: a finished run.
        data: the data it was trained on.
        part: ``val`` leaves the test part alone.
        device: where to predict.
        progress: called with (images done, total).

    Returns:
        The report's path, and the scores.
    """
    manifest = read_manifest(find_bundle(run))
    evaluation = evaluate(
        data,
        run,
        part=part,
        layout=manifest.recipe["data"]["layout"],
        masks=run / "masks" / part,
        device=device,
        system=manifest.system if manifest.system.endswith(".py") else None,
        progress=progress,
    )
    evaluation.save(run / "scores" / f"{part}.json")
    evaluation.save(run / "scores" / f"{part}.csv")
    metrics = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    path = run / "report.html"
    write_report(
        path,
        title=f"{manifest.system} on {manifest.data['name']}",
        evaluation=evaluation,
        history=[json.loads(line) for line in metrics],
        cases=read_cases(evaluation),
        facts=_facts(manifest, part),
        note=evaluation.note or None,
    )
    return path, evaluation


def write_interactions(
    run: Path,
    data: Path,
    *,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, Interactions]:
    """Score a run of a network that is pointed at what it segments on its validation part.

    Writes ``interactions.svg`` and ``scores/interactions_val.csv`` and ``.json``.

    Args:
        run: a finished run.
        data: the data it was trained on.
        device: where to compute.

    Returns:
        The figure's path, and the scores.
    """
    manifest = read_manifest(find_bundle(run))
    found = measure_interactions(
        data,
        run,
        interactions=INTERACTIONS,
        part="val",
        layout=manifest.recipe["data"]["layout"],
        device=device,
        system=manifest.system if manifest.system.endswith(".py") else None,
    )
    path = run / "interactions.svg"
    for file in (path, *(run / "scores" / f"interactions_val{end}" for end in (".csv", ".json"))):
        found.save(file)
    return path, found


def _facts(manifest: Manifest, part: str) -> dict[str, str]:
    train, counts = manifest.recipe["train"], manifest.data["cases"]
    size = manifest.preprocessing.image_size
    seen = f"{train['batch_size']} images a step at {size} x {size} pixels"
    if manifest.volume is not None:
        patch = " x ".join(map(str, manifest.volume.patch))
        seen = f"{train['batch_size']} patches a step of {patch} voxels"
    return {
        "system": f"{manifest.system}, {manifest.parameters:,} parameters",
        "data": f"{counts['train']} training, {counts['val']} validation, {counts['test']} test "
        f"cases; hash {manifest.data['hash']}",
        "scored part": f"{part}, at the images' own size",
        "training": f"{train['epochs']} epochs, {seen}, {train['precision']}, "
        f"seed {manifest.recipe['seed']}",
        "chosen by": f"best validation Dice, {manifest.scores['val_dice']:.4f} at network size",
        "medseg": manifest.medseg,
        "weights": f"SHA-256 {manifest.weights_sha256}",
    }
