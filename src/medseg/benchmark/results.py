"""From the tables of all cells to one long table, means with intervals, and tests."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medseg import __version__
from medseg.benchmark.cell import OK
from medseg.benchmark.check import Checked, Overlap
from medseg.benchmark.spec import Spec
from medseg.data.groups import is_group_column
from medseg.errors import MedsegError
from medseg.files import write_text
from medseg.metrics.compare import compare
from medseg.metrics.fairness import EQUITY_METRICS
from medseg.metrics.panel import METRICS
from medseg.metrics.statistics import bootstrap_mean
from medseg.metrics.tables import equity_over_seeds, groups_in, patients_of, read_table

CELL_COLUMNS = (
    "system", "data", "seed", "status", "error", "val_dice", "parameters", "epochs", "best_epoch",
    "train_seconds", "wall_seconds", "peak_memory_gb", "peak_gpu_memory_gb", "threads",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Table:
    """The scores of one cell on one dataset."""

    system: str
    train_data: str
    data: str
    seed: int
    path: Path


def write_results(
    spec: Spec,
    folder: Path,
    records: Sequence[Mapping[str, Any]],
    places: Mapping[tuple[str, str, int], Path],
    checked: Mapping[str, Checked],
    overlaps: Sequence[Overlap],
    published: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Write ``results.csv``, ``cells.csv`` and ``summary.json``.

    Args:
        spec: of the benchmark.
        folder: of its results.
        records: the content of every ``cell.json``.
        places: the folder of each system, dataset and seed.
        checked: what is known of the data.
        overlaps: what unseen data share with others.
        published: numbers of the literature, or None.

    Returns:
        The summary.
    """
    tables = _tables(spec, records, places, checked)
    write_text(folder / "results.csv", _long_table(tables, spec.metrics))
    write_text(folder / "cells.csv", _cell_table(records))
    summary = {
        "medseg": __version__,
        "protocol": {
            "seeds": list(spec.seeds),
            "split_seed": spec.split_seed,
            "folds": spec.folds,
            "settings": list(spec.settings),
            "empty_policy": spec.empty_policy,
            "convention": spec.convention,
            "selection": "the epoch with the best validation Dice; the test part was opened once "
            "for each cell, at the end",
        },
        "metrics": list(spec.metrics),
        "lower_is_better": [name for name in spec.metrics if METRICS[name].lower_is_better],
        "systems": [each.name for each in spec.systems],
        "data": {entry.name: _facts(checked[entry.name]) for entry in spec.data},
        "unseen": {entry.name: _facts(checked[entry.name]) for entry in spec.unseen},
        "overlaps": [asdict(overlap) for overlap in overlaps],
        "scores": _scores(spec, tables, records),
        "tests": _tests(spec, tables),
        "cells": list(records),
        "failures": _failures(spec, records, checked),
        "published": published,
    }
    text = json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(folder / "summary.json", text + "\n")
    return summary


def _facts(checked: Checked) -> dict[str, Any]:
    return {
        "hash": checked.hash or None,
        "cases": dict(checked.cases or {}),
        "leak": checked.leak,
        "error": checked.error or None,
        "misfits": dict(checked.misfits),
    }


def _tables(
    spec: Spec,
    records: Sequence[Mapping[str, Any]],
    places: Mapping[tuple[str, str, int], Path],
    checked: Mapping[str, Checked],
) -> list[_Table]:
    """The tables of all finished cells, in the order of the specification."""
    finished = {(r["system"], r["data"], r["seed"]): r for r in records if r["status"] == OK}
    found = []
    for system in spec.systems:
        for data in spec.data:
            for seed in spec.seeds:
                record = finished.get((system.name, data.name, seed))
                if record is None:
                    continue
                place = places[system.name, data.name, seed]
                found.append(_Table(system.name, data.name, data.name, seed, place / "test.csv"))
                found += [
                    _Table(system.name, data.name, name, seed, place / "unseen" / f"{name}.csv")
                    for name, each in record["unseen"].items()
                    if each["status"] == OK and data.name not in checked[name].misfits
                ]
    return found


def _long_table(tables: Sequence[_Table], metrics: Sequence[str]) -> str:
    rows = []
    for table in tables:
        where = [table.system, table.data, table.train_data, table.seed]
        with table.path.open(encoding="utf-8", newline="") as file:
            rows += [(where, row) for row in csv.DictReader(file)]
    groups = sorted({name for _, row in rows for name in row if is_group_column(name)})
    columns = ["case", "patient", "class", "status", *metrics]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["system", "data", "train_data", "seed", *columns, *groups])
    for where, row in rows:
        told = [row[name] for name in columns] + [row.get(name, "") for name in groups]
        writer.writerow([*where, *told])
    return text.getvalue()


def _cell_table(records: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, CELL_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow(
            {key: "" if record.get(key) is None else record[key] for key in CELL_COLUMNS}
        )
    return text.getvalue()


def _grouped(tables: Sequence[_Table]) -> dict[tuple[str, str], dict[str, list[_Table]]]:
    """By what was trained on and what is scored, the tables of each system."""
    groups: dict[tuple[str, str], dict[str, list[_Table]]] = defaultdict(lambda: defaultdict(list))
    for table in tables:
        groups[table.train_data, table.data][table.system].append(table)
    return groups


def _scores(
    spec: Spec, tables: Sequence[_Table], records: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Means of every system on every dataset: over seeds for each case, then over cases."""
    found = []
    for (train_data, data), systems in _grouped(tables).items():
        every = [table for of_system in systems.values() for table in of_system]
        groups = groups_in(read_table(table.path, "dice") for table in every)
        for system, of_system in systems.items():
            read = [read_table(table.path, "dice") for table in of_system]
            seeds = [table.seed for table in of_system]
            found.append(
                {
                    "system": system,
                    "train_data": train_data,
                    "data": data,
                    "unseen": data != train_data,
                    "seeds": seeds,
                    "failed_seeds": [seed for seed in spec.seeds if seed not in seeds],
                    "cases": len(read[0].values),
                    "case_failures": sum(table.failures for table in read),
                    "metrics": {
                        metric: _mean([table.path for table in of_system], metric)
                        for metric in spec.metrics
                    },
                    "equity": [
                        asdict(each)
                        for metric in EQUITY_METRICS
                        if metric in spec.metrics
                        for each in equity_over_seeds(
                            [read_table(table.path, metric) for table in of_system], groups, metric
                        )
                    ],
                }
            )
    order = [system.name for system in spec.systems]
    return sorted(found, key=lambda each: order.index(each["system"]))


def _mean(paths: Sequence[Path], metric: str) -> dict[str, Any]:
    tables = [read_table(path, metric) for path in paths]
    # As `medseg compare` does, so that both give the same interval.
    cases, patients = sorted(tables[0].values), patients_of(tables)
    values = np.array([[table.values[case] for case in cases] for table in tables])  # (S, N)
    interval = bootstrap_mean(values.mean(axis=0), groups=[patients.get(case) for case in cases])
    defined = ~np.isnan(values).any(axis=0)
    means = values[:, defined].mean(axis=1).tolist() if defined.any() else []
    return {
        **asdict(interval),
        "seed_means": means,
        "seed_sd": float(np.std(means, ddof=1)) if len(means) > 1 else None,
    }


def _tests(spec: Spec, tables: Sequence[_Table]) -> list[dict[str, Any]]:
    """Every two systems on the cases of a dataset, corrected for the number of pairs there."""
    found = []
    for (train_data, data), systems in _grouped(tables).items():
        if len(systems) < 2:
            continue
        for metric in spec.metrics:
            where = {"train_data": train_data, "data": data, "metric": metric}
            try:
                compared = compare(
                    {name: [table.path for table in of] for name, of in systems.items()},
                    metric=metric,
                    lower_is_better=METRICS[metric].lower_is_better,
                )
            except MedsegError as error:
                found.append({**where, "error": str(error)})
                continue
            found += [{**where, **asdict(pair)} for pair in compared.pairs]
    return found


def _failures(
    spec: Spec, records: Sequence[Mapping[str, Any]], checked: Mapping[str, Checked]
) -> list[dict[str, Any]]:
    """Cells that failed and unseen data that could not be scored, where that was not foreseen."""
    found = [
        {"system": r["system"], "data": r["data"], "seed": r["seed"], "error": r["error"]}
        for r in records
        if r["status"] != OK
    ]
    for entry in spec.unseen:
        if checked[entry.name].error:
            found.append(
                {
                    "system": None,
                    "data": entry.name,
                    "seed": None,
                    "error": checked[entry.name].error,
                }
            )
    misfits = {entry.name: checked[entry.name].misfits for entry in spec.unseen}
    for r in records:
        for name, each in r.get("unseen", {}).items():
            if each["status"] != OK and r["data"] not in misfits.get(name, ()):
                found.append(
                    {"system": r["system"], "data": name, "seed": r["seed"], "error": each["error"]}
                )
    return found
