"""Reading what a benchmark left in its folder, for tables, figures and the page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from medseg.errors import DataError
from medseg.metrics.compare import LOWER_IS_BETTER, Comparison, compare
from medseg.metrics.fairness import Equity
from medseg.metrics.panel import DEFAULT_METRICS, METRICS
from medseg.metrics.statistics import Interval, bootstrap_mean
from medseg.metrics.tables import ScoreTable, equity_over_seeds, groups_in, read_table

OK = "ok"
NOT_RUN = "not run"


# Of `Efficiency`.
_MEASURED = (
    "image_size",
    "batch_size",
    "threads",
    "parameters",
    "macs",
    "inference_peak_mb",
    "training_peak_mb",
    "latency_ms_median",
    "latency_ms_iqr",
    "onnx_latency_ms_median",
    "onnx_latency_ms_iqr",
)


class Task(NamedTuple):
    """What was trained on and what was scored; for a test part both are the same."""

    train: str
    test: str

    @property
    def title(self) -> str:
        if self.train == self.test:
            return self.test
        return f"{self.test}, trained on {self.train}"

    @property
    def file(self) -> str:
        """For names of files; names of datasets have no ``@``."""
        return self.test if self.train == self.test else f"{self.test}@{self.train}"


@dataclass(frozen=True)
class Cell:
    """One training of the grid.

    Attributes:
        system: its name in the benchmark.
        data: what it was trained on.
        seed: of the training.
        status: ``ok``, ``failed`` or ``not run``.
        error: why it failed.
        tables: scored dataset to the per-case table; of ``data`` it is the test part.
        curve: (epoch, validation Dice) of the training.
        parameters: of the network.
        train_seconds: wall time of the training.
        epochs: trained.
        best_epoch: whose weights were kept.
        peak_memory_gb: of the whole process.
        val_dice: at the best epoch.
        data_hash: of what it was trained on.
        medseg: the version.
        leak: what stands on both sides of the split, where that was allowed.
        unscored: unseen dataset to the reason why it has no scores.
    """

    system: str
    data: str
    seed: int
    status: str
    error: str = ""
    tables: Mapping[str, Path] = field(default_factory=dict)
    curve: tuple[tuple[int, float], ...] = ()
    parameters: int | None = None
    train_seconds: float | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    peak_memory_gb: float | None = None
    val_dice: float | None = None
    data_hash: str = ""
    medseg: str = ""
    leak: str = ""
    unscored: Mapping[str, str] = field(default_factory=dict)


class Twins(NamedTuple):
    """Images of scored data that are nearly alike to images of the data trained on.

    Attributes:
        cases: how many scored cases have such a twin.
        learnt: how many of them a twin in the training or validation part.
    """

    cases: int
    learnt: int


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of one system on one task.

    Attributes:
        mean: over cases, of the mean over seeds of each case.
        seeds: how many trainings.
        seed_sd: standard deviation over seeds of the mean over cases; None for a single seed.
        failures: predictions that could not be used, over all seeds.
    """

    mean: Interval
    seeds: int
    seed_sd: float | None
    failures: int


@dataclass(frozen=True, slots=True)
class Published:
    """A number from the literature."""

    system: str
    data: str
    metric: str
    value: float
    source: str
    protocol: str
    n: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Results:
    """A benchmark's folder.

    Attributes:
        out: the folder.
        spec: what was asked for, as in ``spec.yaml``.
        cells: every training that was asked for, in the order of the spec.
        efficiency: system to its measurements, for those that were measured.
        summary: ``summary.json``; empty without one.
        published: numbers from the literature, to stand beside ours.
        overlaps: what unseen data share with the data trained on; None where nobody looked.
    """

    out: Path
    spec: Mapping[str, Any]
    cells: tuple[Cell, ...]
    efficiency: Mapping[str, Mapping[str, Any]]
    summary: Mapping[str, Any]
    published: tuple[Published, ...]
    overlaps: Mapping[Task, Twins] | None = None
    _scores: dict[tuple[str, Task, str], Score | None] = field(default_factory=dict, repr=False)
    _equities: dict[tuple[str, Task, str], list[Equity]] = field(default_factory=dict, repr=False)
    _comparisons: dict[tuple[Task, str], Comparison | None] = field(
        default_factory=dict, repr=False
    )

    @classmethod
    def read(cls, out: str | Path) -> Results:
        """Read the folder that `medseg benchmark -o` wrote, also when its grid is not complete.

        Raises:
            DataError: it is no such folder, a file in it cannot be read, or trainings on one
                dataset saw different data.
        """
        out = Path(out)
        spec = _read_spec(out / "spec.yaml")
        cells = tuple(
            _read_cell(out, spec, system, data, seed)
            for data in _names(spec, "data")
            for system in _names(spec, "systems")
            for seed in spec.get("seeds", ())
        )
        _check_hashes(out, cells)
        efficiency = {}
        for system in _names(spec, "systems"):
            path = out / "efficiency" / f"{system}.json"
            if path.is_file():
                measured = _read_json(path)
                efficiency[system] = {
                    **{key: _number(measured, key, path) for key in _MEASURED},
                    "onnx_note": str(measured.get("onnx_note") or ""),
                    "patch": _sides(measured, path),
                }
        path = out / "summary.json"
        summary = _read_json(path) if path.is_file() else {}
        return cls(
            out=out,
            spec=spec,
            cells=cells,
            efficiency=efficiency,
            summary=summary,
            published=_published(summary.get("published"), path),
            overlaps=_overlaps(summary["overlaps"], path) if "overlaps" in summary else None,
        )

    @property
    def name(self) -> str:
        return self.out.resolve().name

    @property
    def systems(self) -> tuple[str, ...]:
        return _names(self.spec, "systems")

    @property
    def data(self) -> tuple[str, ...]:
        """What was trained on."""
        return _names(self.spec, "data")

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.spec.get("seeds", ()))

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(self.spec.get("metrics", DEFAULT_METRICS))

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """What has scores: test parts first, then each training's unseen data."""
        found = dict.fromkeys(Task(cell.data, name) for cell in self.cells for name in cell.tables)
        fitting = [task for task in found if task not in self.misfits]
        return tuple(sorted(fitting, key=lambda task: task.train != task.test))

    @property
    def own_tasks(self) -> tuple[Task, ...]:
        """The test parts of the data trained on."""
        return tuple(task for task in self.tasks if task.train == task.test)

    @property
    def failed(self) -> tuple[Cell, ...]:
        """Cells without a result."""
        return tuple(cell for cell in self.cells if cell.status != OK)

    @property
    def unscored(self) -> dict[str, str]:
        """Unseen datasets that could not be used at all, with the reason."""
        names = _names(self.spec, "unseen")
        facts = {name: self.facts("unseen", name).get("error") for name in names}
        return {name: str(error) for name, error in facts.items() if error}

    @cached_property
    def misfits(self) -> dict[Task, str]:
        """What is not scored because its classes are not those trained on, with both."""
        found = {}
        for name in _names(self.spec, "unseen"):
            said = self.facts("unseen", name).get("misfits")
            for data, reason in said.items() if isinstance(said, dict) else ():
                found[Task(str(data), name)] = str(reason)
        return found

    @property
    def convention(self) -> str:
        """By which the metrics were computed."""
        return str(self.spec.get("convention", "default"))

    def facts(self, key: str, name: str) -> Mapping[str, Any]:
        """What the summary knows of a dataset of ``data`` or ``unseen``; empty if nothing."""
        of_key = self.summary.get(key)
        found = of_key.get(name) if isinstance(of_key, dict) else None
        return found if isinstance(found, dict) else {}

    def of(self, system: str, data: str) -> tuple[Cell, ...]:
        """The finished trainings of a system on a dataset, one a seed."""
        return tuple(
            cell
            for cell in self.cells
            if (cell.system, cell.data, cell.status) == (system, data, OK)
        )

    def score(self, system: str, task: Task, metric: str = "dice") -> Score | None:
        """How good a system is on a task; None where no training of it has been scored."""
        key = (system, task, metric)
        if key not in self._scores:
            paths = self._tables(system, task)
            self._scores[key] = _score(paths, metric) if paths else None
        return self._scores[key]

    def comparison(self, task: Task, metric: str = "dice") -> Comparison | None:
        """All systems with scores on a task against each other; None for fewer than two."""
        key = (task, metric)
        if key not in self._comparisons:
            tables = {system: self._tables(system, task) for system in self.systems}
            tables = {system: paths for system, paths in tables.items() if paths}
            self._comparisons[key] = compare(tables, metric=metric) if len(tables) > 1 else None
        return self._comparisons[key]

    def equity(self, system: str, task: Task, metric: str = "dice") -> list[Equity]:
        """How equally good a system is on a task for the groups of each attribute; empty where
        the data name none."""
        key = (system, task, metric)
        if key not in self._equities:
            paths = self._tables(system, task)
            self._equities[key] = equity_over_seeds(
                [read_table(path, metric) for path in paths], self._groups(task), metric
            ) if paths else []  # fmt: skip
        return self._equities[key]

    def _groups(self, task: Task) -> dict[str, dict[str, str]]:
        paths = [path for system in self.systems for path in self._tables(system, task)]
        return groups_in(read_table(path, "dice") for path in paths)

    def parameters(self, system: str) -> int | None:
        """Of the network as it was trained, else as it was measured."""
        counts = [cell.parameters for cell in self.cells if cell.system == system]
        known = [count for count in counts if count is not None]
        measured = self.efficiency.get(system, {}).get("parameters")
        return max(known) if known else measured

    def twins(self, task: Task) -> Twins | None:
        """What unseen data share with the data trained on; None where nobody looked."""
        if task.train == task.test or self.overlaps is None:
            return None
        return self.overlaps.get(task, Twins(0, 0))

    def ranking(self) -> list[tuple[str, float, tuple[int, ...]]]:
        """Systems by their mean rank over the test parts, best first.

        Returns:
            System, mean rank, and its rank on each of ``own_tasks``. A system without a score on
            a task has the last rank there: a failure does not improve a mean.
        """
        placed: dict[str, list[int]] = {system: [] for system in self.systems}
        for task in self.own_tasks:
            means = {system: _mean(self.score(system, task)) for system in self.systems}
            for system, mean in means.items():
                ahead = sum(other > mean for other in means.values())
                placed[system].append(ahead + 1 if mean > -math.inf else len(means))
        rows = [
            (system, sum(ranks) / len(ranks), tuple(ranks))
            for system, ranks in placed.items()
            if ranks
        ]
        return sorted(rows, key=lambda row: row[1])

    def _tables(self, system: str, task: Task) -> list[Path]:
        if task in self.misfits:
            return []
        cells = self.of(system, task.train)
        return [cell.tables[task.test] for cell in cells if task.test in cell.tables]


def metric_title(metric: str) -> str:
    """A metric's name for readers."""
    return METRICS[metric].title if metric in METRICS else metric


def lower_is_better(metric: str) -> bool:
    """Whether 0 is the best value."""
    return metric in LOWER_IS_BETTER


def _mean(score: Score | None) -> float:
    """For ranking: what is not there is behind everything."""
    return -math.inf if score is None or score.mean.mean is None else round(score.mean.mean, 12)


def _score(paths: Sequence[Path], metric: str) -> Score:
    tables = [read_table(path, metric) for path in paths]
    first = tables[0]
    for table in tables[1:]:
        if set(table.values) != set(first.values):
            raise DataError(
                table.path,
                f"its cases are not those of {first.path}",
                "Seeds of one system are scored on the same cases: run the benchmark again",
            )
    # Sorted as in `compare`, so that both give the same interval.
    cases = sorted(first.values)
    values = np.array([[table.values[case] for case in cases] for table in tables])  # (S, N)
    over_seeds = values.mean(axis=0)
    by_seed = values[:, ~np.isnan(over_seeds)]
    several = len(tables) > 1 and by_seed.size > 0
    return Score(
        mean=bootstrap_mean(over_seeds, groups=_patients(tables, cases)),
        seeds=len(tables),
        seed_sd=float(by_seed.mean(axis=1).std(ddof=1)) if several else None,
        failures=sum(table.failures for table in tables),
    )


def _patients(tables: Sequence[ScoreTable], cases: Sequence[str]) -> list[str | None]:
    known = {case: patient for table in tables for case, patient in table.patients.items()}
    return [known.get(case) for case in cases]


def _names(spec: Mapping[str, Any], key: str) -> tuple[str, ...]:
    return tuple(entry["name"] for entry in spec.get(key) or ())


def _read_spec(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(
            path.parent,
            "it holds no spec.yaml, so it is not a benchmark's folder",
            "Give the folder that `medseg benchmark -o` wrote",
        )
    try:
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
        complete = all(_names(spec, key) for key in ("systems", "data"))
        names = [name for key in ("systems", "data", "unseen") for name in _names(spec, key)]
        strange = [name for name in names if Path(name).name != name]
        numbered = all(isinstance(seed, int) for seed in spec.get("seeds", ()))
        titled = all(isinstance(metric, str) for metric in spec.get("metrics", ()))
    except (OSError, ValueError, yaml.YAMLError, AttributeError, TypeError, KeyError) as error:
        raise _unreadable(path, error) from error
    if strange:
        raise DataError(path, f"{strange[0]!r} cannot name a folder", "Restore the file")
    if not (complete and numbered and titled):
        raise DataError(
            path, "systems, data, seeds or metrics are not as they were written", "Restore the file"
        )
    return dict(spec)


def _read_cell(out: Path, spec: Mapping[str, Any], system: str, data: str, seed: int) -> Cell:
    folder = out / "cells" / system / data / f"seed-{seed}"
    if not (folder / "cell.json").is_file():
        return Cell(system, data, seed, NOT_RUN, "the benchmark stopped before it")
    said = _read_json(folder / "cell.json")
    status = str(said.get("status", "failed"))
    tables: dict[str, Path] = {}
    if status == OK:
        tables[data] = folder / "test.csv"
        for name in _names(spec, "unseen"):
            # A name may have dots in it, so it is no stem.
            path = folder / "unseen" / f"{name}.csv"
            if path.is_file():
                tables[name] = path
    unseen = said.get("unseen")
    numbers = ("parameters", "train_seconds", "epochs", "best_epoch", "peak_memory_gb", "val_dice")
    return Cell(
        system,
        data,
        seed,
        status,
        str(said.get("error") or ""),
        tables,
        _read_curve(folder / "metrics.jsonl"),
        data_hash=str(said.get("data_hash") or ""),
        medseg=str(said.get("medseg") or ""),
        leak=str(said.get("leak") or ""),
        unscored={
            name: str(each.get("error"))
            for name, each in (unseen.items() if isinstance(unseen, dict) else ())
            if isinstance(each, dict) and each.get("status") != OK
        },
        **{name: _number(said, name, folder / "cell.json") for name in numbers},
    )


def _read_curve(path: Path) -> tuple[tuple[int, float], ...]:
    """Validation Dice over the epochs; empty where nothing was recorded."""
    if not path.is_file():
        return ()
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return tuple(
            (int(line["epoch"]), float(line["val_dice"]))
            for line in lines
            if line.get("val_dice") is not None
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise _unreadable(path, error) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(found, dict):
        raise DataError(path, "it holds no keys", "Run the benchmark again")
    return found


def _sides(said: Mapping[str, Any], path: Path) -> tuple[int, ...] | None:
    """Of a window of voxels; None where images were measured."""
    found = said.get("patch")
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(each, int) for each in found):
        raise DataError(path, f"its patch is {found!r}", "Restore it, or run the benchmark again")
    return tuple(found)


def _number(said: Mapping[str, Any], key: str, path: Path) -> Any:
    """A number, or None where it is not known."""
    found = said.get(key)
    if found is None or (isinstance(found, (int, float)) and math.isfinite(found)):
        return found
    raise DataError(path, f"{key} is {found!r}, which is no number", "Run the benchmark again")


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(path, f"it cannot be read ({reason})", "Run the benchmark again")


def _check_hashes(out: Path, cells: Sequence[Cell]) -> None:
    """Numbers from different data are not one benchmark."""
    known: dict[str, Cell] = {}
    for cell in cells:
        first = known.setdefault(cell.data, cell) if cell.data_hash else cell
        if cell.data_hash != first.data_hash:
            raise DataError(
                out / "cells" / cell.system / cell.data / f"seed-{cell.seed}",
                f"{cell.data} had the hash {cell.data_hash} and {first.data_hash} for "
                f"{first.system}, seed {first.seed}",
                "Results of different data cannot be shown together: run them in another folder",
            )


def _overlaps(given: Any, path: Path) -> dict[Task, Twins]:
    """A list of ``{data, unseen, pairs: [[case, case], ...], learnt}``."""
    try:
        return {
            Task(each["data"], each["unseen"]): Twins(
                len({second for _, second in each["pairs"]}), int(each["learnt"])
            )
            for each in given
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(path, error) from error


def _published(given: Any, path: Path) -> tuple[Published, ...]:
    """One source, or a list of them: ``{source, protocol, entries: [{system, data, ...}]}``."""
    sources = [given] if isinstance(given, Mapping) else given or []
    try:
        return tuple(
            Published(
                str(entry["system"]),
                str(entry["data"]),
                str(entry["metric"]),
                float(entry["value"]),
                str(source["source"]),
                str(source["protocol"]),
                _number(entry, "n", path),
                str(entry.get("note") or ""),
            )
            for source in sources
            for entry in source["entries"]
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(path, error) from error
