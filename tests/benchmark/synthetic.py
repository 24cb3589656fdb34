"""The folder of a benchmark, with numbers drawn instead of trained."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

METRICS = ("dice", "iou", "precision", "recall", "hd95", "nsd")
SYSTEMS = {"med2d-segnet": 0.86, "encoder-plain": 0.83, "encoder-residual": 0.85, "unet": 0.78}
"""System to its mean Dice on the data it was trained on."""
PARAMETERS = {"med2d-segnet": 2_069_041, "encoder-plain": 2_060_000, "unet": 31_036_673}
PUBLISHED = {
    "source": "A. Author et al. 2020",
    "protocol": "80/20 split, 352 px, best of one run",
    "entries": [
        {"system": "unet", "data": "glas", "metric": "dice", "value": 0.91, "n": 80, "note": ""},
        {"system": "SOTA-Net", "data": "glas", "metric": "dice", "value": 0.95},
    ],
}


def benchmark_folder(
    out: Path,
    *,
    systems: Mapping[str, float] = SYSTEMS,
    data: Iterable[str] = ("dsb2018", "glas"),
    unseen: Iterable[str] = ("cvc_clinicdb",),
    seeds: Iterable[int] = (0, 1, 2),
    cases: int = 30,
    failed: Iterable[tuple[str, str, int]] = (),
    missing: Iterable[tuple[str, str, int]] = (),
    efficiency: bool = True,
    published: Any = PUBLISHED,
    patients: int = 0,
    groups: str = "",
) -> Path:
    """Write OUT as `medseg benchmark` does: a better system is better on every metric.

    Args:
        out: the folder.
        systems: name to mean Dice.
        data: trained on.
        unseen: scored as it is.
        seeds: of the trainings.
        cases: of each dataset.
        failed: (system, data, seed) of the cells that failed.
        missing: of those that were not run.
        efficiency: whether it was measured.
        published: of ``summary.json``.
        patients: how many patients share the cases; 0 for none known.
        groups: letters, of which each case in turn has one as its sex; of the last one Dice is 0.1
            less.
    """
    data, unseen, seeds = list(data), list(unseen), list(seeds)
    failed, missing = set(failed), set(missing)
    out.mkdir(parents=True, exist_ok=True)
    spec = {
        "systems": [{"name": name, "system": name, "set": []} for name in systems],
        "data": [{"name": name, "path": f"/data/{name}", "hash": f"hash-{name}"} for name in data],
        "unseen": [{"name": name, "path": f"/data/{name}"} for name in unseen],
        "seeds": seeds,
        "set": ["data.image_size=64"],
        "metrics": list(METRICS),
        "empty_policy": "one",
    }
    (out / "spec.yaml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    for system, mean in systems.items():
        for name in data:
            for seed in seeds:
                key = (system, name, seed)
                if key not in missing:
                    folder = out / "cells" / system / name / f"seed-{seed}"
                    _cell(folder, key, mean, unseen, (cases, patients, groups), key in failed)
        if efficiency:
            _efficiency(out / "efficiency" / f"{system}.json", system)
    pairs = [["a", "c001"], ["b", "c001"], ["b", "c002"]]
    summary = {
        "overlaps": [
            {"data": data[0], "unseen": other, "pairs": pairs, "learnt": 1} for other in unseen
        ],
        "published": published,
    }
    (out / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return out


def _cell(
    folder: Path,
    key: tuple[str, str, int],
    mean: float,
    unseen: Iterable[str],
    sizes: tuple[int, int, str],
    fails: bool,
) -> None:
    system, data, seed = key
    said: dict[str, Any] = {
        "system": system,
        "data": data,
        "seed": seed,
        "status": "failed" if fails else "ok",
        "error": "RuntimeError: <out of memory>" if fails else None,
        "parameters": PARAMETERS.get(system, 2_070_000),
        "train_seconds": 60.5,
        "epochs": 5,
        "best_epoch": 4,
        "peak_memory_gb": 0.9,
        "data_hash": f"hash-{data}",
        "medseg": "0.1.0",
        "val_dice": mean,
        "leak": "",
        "unseen": {name: {"status": "ok", "error": None} for name in unseen},
    }
    folder.mkdir(parents=True)
    (folder / "cell.json").write_text(json.dumps(said), encoding="utf-8")
    if fails:
        return
    _table(folder / "test.csv", data, mean, seed, *sizes)
    for name in unseen:
        _table(folder / "unseen" / f"{name}.csv", name, mean - 0.15, seed, *sizes)
    lines = [
        {"epoch": epoch, "loss": 1 / epoch, "val_dice": mean - 0.3 / epoch + 0.01 * seed}
        for epoch in range(1, 6)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")


def _table(
    path: Path, data: str, mean: float, seed: int, cases: int, patients: int, groups: str
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # The same cases are hard for all systems.
    hard = np.random.default_rng(len(data)).normal(0, 0.05, cases)
    own = np.random.default_rng([seed, int(1000 * mean)]).normal(0, 0.01, cases)
    head = ["case", "patient", "class", "status", "truth_pixels", "predicted_pixels", *METRICS]
    head += ["group:sex"] if groups else []
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        for case, dice in enumerate(np.clip(mean + hard + own, 0, 1)):
            patient = f"p{case % patients}" if patients else ""
            sex = [groups[case % len(groups)]] if groups else []
            if groups and sex == [groups[-1]]:
                dice = max(dice - 0.1, 0)
            scores = [dice, dice / (2 - dice), dice, dice, 40 * (1 - dice), dice]
            writer.writerow([f"c{case:03}", patient, "foreground", "ok", 100, 90, *scores, *sex])


def _efficiency(path: Path, system: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parameters = PARAMETERS.get(system, 2_070_000)
    said = {
        "parameters": parameters,
        "macs": 500 * parameters,
        "inference_peak_mb": 40.5,
        "training_peak_mb": 400.25,
        "latency_ms_median": parameters**0.5 / 50,
        "latency_ms_iqr": 1.5,
        "onnx_latency_ms_median": None if system == "unet" else parameters**0.5 / 80,
        "onnx_latency_ms_iqr": None if system == "unet" else 0.5,
        "onnx_note": "it cannot be exported to ONNX (a loop)" if system == "unet" else "",
        "threads": 1,
        "image_size": 64,
    }
    path.write_text(json.dumps(said), encoding="utf-8")
