"""One number over all tasks of a benchmark, what the network's size leaves, and unseen data.

    python benchmarks/many_tasks.py results/twenty-64px results/twenty-64px.json --aim 0.8977 \
        --unseen kvasir_seg=../shared/data/cvc_clinicdb

The first argument is the folder of `medseg benchmark`, also one that is not complete: tasks that
some system has no score on are left out, and named.

- The mean over tasks counts every task the same, however many cases it has. Its interval draws the
  cases (patients, where they are known) of every task anew: other images of the same tasks.
- A difference between two systems is paired by case; besides its interval, signs of the tasks'
  differences are flipped at random (two-sided): would other tasks say the same? Holm-corrected.
- ``kept`` is the Dice of a task's true masks with themselves after they were resized to the
  network's size and back, mean over images (of volumes: slices) and the classes they show: about
  what a perfect network of that size would reach.
- ``--unseen TRAINED=FOLDER`` scores every model of TRAINED on all of FOLDER; tables are kept in the
  cells, so that a second call is quick.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from common import origin
from medseg.benchmark.figures.frame import styles
from medseg.benchmark.reading import Results
from medseg.data.case import IGNORE, LabelMap
from medseg.data.labels import read_classes
from medseg.data.layouts import open_dataset
from medseg.data.preprocess import resize_mask
from medseg.data.splitfile import read_split
from medseg.files import write_text
from medseg.inference.bundle import read_manifest
from medseg.metrics.compare import compare
from medseg.metrics.statistics import resampled_means, unit_sums, units_of
from medseg.metrics.tables import read_table
from medseg.scoring import evaluate

RESAMPLES = 4999
FLIPS = 100_000
# Of a task: (cases, systems) scores, and the patient of each case where known.
Scores = tuple[NDArray[np.float64], list[str | None]]


def scores_of(tables: Mapping[str, Sequence[Path]]) -> Scores:
    """The Dice of all systems on one task, each case the mean over seeds."""
    read = {
        system: [read_table(path, "dice") for path in paths] for system, paths in tables.items()
    }
    every = [table for of_system in read.values() for table in of_system]
    cases = sorted(every[0].values)
    values = [
        np.mean([[table.values[case] for case in cases] for table in of_system], axis=0)
        for of_system in read.values()
    ]
    known = {case: patient for table in every for case, patient in table.patients.items()}
    return np.stack(values, axis=1), [known.get(case) for case in cases]


def resampled(tasks: Sequence[Scores], seed: int = 0) -> NDArray[np.float64]:
    """Means over tasks, (RESAMPLES, systems), when the cases of each task are drawn anew."""
    total = np.zeros((RESAMPLES, tasks[0][0].shape[1]))
    for number, (values, patients) in enumerate(tasks):
        sums, sizes = unit_sums(values, units_of(patients, len(values)))
        total += np.concatenate(
            list(resampled_means(sums, sizes, RESAMPLES, seed + number)), axis=0
        )
    return total / len(tasks)


def flipped_p(differences: NDArray[np.float64], seed: int = 0) -> float:
    """The share of random signs that give a mean at least as far from 0."""
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], (FLIPS, differences.size))
    # The tolerance counts what is equal but for rounding.
    far = np.abs((signs * differences).mean(axis=1)) >= abs(differences.mean()) - 1e-12
    return float((1 + far.sum()) / (1 + FLIPS))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction, in the given order."""
    corrected = [0.0] * len(p_values)
    least = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = least
    return corrected


def dice_kept(mask: NDArray[np.uint8], size: int, classes: int) -> float:
    """Mean Dice of the classes that a mask shows with themselves, resized to ``size`` and back;
    NaN for an empty mask."""
    height, width = mask.shape
    small = Image.fromarray(resize_mask(mask, size))
    back = np.asarray(small.resize((width, height), Image.Resampling.NEAREST))
    known = (mask != IGNORE) & (back != IGNORE)
    found = [
        2 * (truth & other).sum() / (truth.sum() + other.sum())
        for truth, other in ((known & (mask == k), known & (back == k)) for k in range(1, classes))
        if truth.any()
    ]
    return float(np.mean(found)) if found else float("nan")


def kept(out: Path, entry: Mapping[str, Any], labels: LabelMap, size: int) -> float:
    """Mean of :func:`dice_kept` over the test part of a dataset of the benchmark in ``out``."""
    parts = read_split(out / "splits" / f"{entry['name']}.csv").parts
    values = [
        dice_kept(
            read_classes(case.mask, labels, field_of_view=case.field_of_view),
            size,
            len(labels.labels),
        )
        for case in open_dataset(out / entry["path"], layout=entry["layout"]).cases
        if parts.get(case.id) == "test" and case.mask is not None
    ]
    return float(np.nanmean(values))


def over_tasks(results: Results, out: Path) -> dict[str, Any]:
    """Means over tasks, differences of systems, and every task by itself."""
    tasks = [
        task
        for task in results.own_tasks
        if all(results.of(system, task.train) for system in results.systems)
    ]
    entries = {entry["name"]: entry for entry in results.spec["data"]}
    of_tasks, rows = [], {}
    for task in tasks:
        cells = {system: results.of(system, task.train) for system in results.systems}
        of_task = scores_of(
            {system: [cell.tables[task.test] for cell in found] for system, found in cells.items()}
        )
        of_tasks.append(of_task)
        first = cells[results.systems[0]][0]
        run = out / "cells" / first.system / first.data / f"seed-{first.seed}" / "run"
        manifest = read_manifest(run / "model.medseg")
        rows[task.test] = {
            "cases": len(of_task[1]),
            "kept": kept(
                out, entries[task.test], manifest.label_map, manifest.preprocessing.image_size
            ),
            "epochs": {system: found[0].epochs for system, found in cells.items()},
            "dice": {
                system: as_interval(score.mean)
                for system in results.systems
                if (score := results.score(system, task)) is not None
            },
        }
    means = np.array([values.mean(axis=0) for values, _ in of_tasks])  # (tasks, systems)
    drawn = resampled(of_tasks)
    pairs = list(combinations(range(len(results.systems)), 2))
    flips = holm([flipped_p(means[:, a] - means[:, b]) for a, b in pairs])
    return {
        "tasks": rows,
        "left_out": [name for name in results.data if name not in rows],
        "kept": float(np.mean([row["kept"] for row in rows.values()])),
        "mean": {
            system: bounds(means[:, place].mean(), drawn[:, place])
            for place, system in enumerate(results.systems)
        },
        "differences": [
            {
                "systems": [results.systems[a], results.systems[b]],
                "ahead_on": int((means[:, a] > means[:, b]).sum()),
                **bounds((means[:, a] - means[:, b]).mean(), drawn[:, a] - drawn[:, b]),
                "p_over_tasks": p,
            }
            for (a, b), p in zip(pairs, flips, strict=True)
        ],
    }


def bounds(mean: float, drawn: NDArray[np.float64]) -> dict[str, float]:
    """A mean with the 95 % percentile interval of its resamples."""
    low, high = np.percentile(drawn, (2.5, 97.5))
    return {"mean": float(mean), "low": float(low), "high": float(high)}


def as_interval(interval: Any) -> dict[str, Any]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def score_unseen(results: Results, out: Path, trained: str, folder: Path) -> dict[str, Any]:
    """Every model of ``trained`` on all cases of ``folder``, and all systems against each other."""
    entries: Mapping[str, Any] = {each["name"]: each for each in results.spec["data"]}
    pattern = entries.get(folder.name, {}).get("group_pattern")
    tables: dict[str, list[Path]] = {}
    for system in results.systems:
        for cell in results.of(system, trained):
            place = out / "cells" / system / trained / f"seed-{cell.seed}"
            table = place / "unseen" / f"all-{folder.name}.csv"
            if not table.is_file():
                print(f"{system}, seed {cell.seed}: {trained} to {folder.name}")
                found = evaluate(
                    folder,
                    place / "run",
                    part="all",
                    group_pattern=pattern,
                    metrics=["dice"],
                    workers=1,
                )
                write_text(table, found.to_csv())
            tables.setdefault(system, []).append(table)
    said = compare({system: paths for system, paths in tables.items() if paths})
    return {
        "trained_on": trained,
        "scored_on": folder.name,
        "cases": said.cases,
        "dice": {each.name: as_interval(each.mean) for each in said.systems},
        "pairs": json.loads(said.to_json())["pairs"],
    }


def draw(found: Mapping[str, Any], path: Path) -> None:
    """A row a task, sorted by what the size keeps: the Dice of every system, with intervals."""
    rows = sorted(found["tasks"].items(), key=lambda item: -item[1]["kept"])
    look = styles(list(found["mean"]))
    figure = Figure(figsize=(8, 0.3 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    for place, (_, row) in enumerate(rows):
        axes.plot(row["kept"], place, "|", color="black", markersize=12, label=_once("kept", place))
        for number, (system, dice) in enumerate(row["dice"].items()):
            height = place + 0.3 * (number - (len(row["dice"]) - 1) / 2)
            axes.plot((dice["low"], dice["high"]), (height, height), color=look[system].colour)
            axes.plot(
                dice["mean"],
                height,
                look[system].marker,
                color=look[system].colour,
                label=_once(system, place),
            )
    if found["aim"] is not None:
        axes.axvline(found["aim"], linestyle=":", color="grey", label="aim for the mean")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("Dice of test cases, 95 % interval")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower left", fontsize=8)
    figure.savefig(path, dpi=100)


def _once(label: str, place: int) -> str | None:
    """A legend names what it shows once."""
    return label if place == 0 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--aim", type=float, help="a mean to be held beside, 0 to 1")
    parser.add_argument("--figure", type=Path, help="a PNG of every task")
    parser.add_argument("--unseen", action="append", default=[], metavar="TRAINED=FOLDER")
    arguments = parser.parse_args()
    results = Results.read(arguments.benchmark)
    found = {**origin(), "seeds": list(results.seeds), "aim": arguments.aim}
    found |= over_tasks(results, arguments.benchmark)
    if arguments.figure is not None:
        draw(found, arguments.figure)
    found["unseen"] = [
        score_unseen(results, arguments.benchmark, trained, Path(folder))
        for trained, _, folder in (each.partition("=") for each in arguments.unseen)
    ]
    write_text(arguments.output, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
