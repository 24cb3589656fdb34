"""What the tables of a benchmark hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from medseg.benchmark.reading import (
    OK,
    Results,
    Score,
    Task,
    lower_is_better,
    metric_title,
)
from medseg.benchmark.tabular import Entry, Table
from medseg.errors import plural
from medseg.metrics.compare import Comparison
from medseg.metrics.fairness import EQUITY_METRICS, Equity
from medseg.report.comparison import number, p_value

NOTHING = "-"
_MOST_PAIRS = 60


def all_tables(results: Results) -> list[Table]:
    """Every table that has something to show."""
    tables = [overview(results), *(scores(results, task) for task in results.tasks)]
    tables += [groups(results, task) for task in results.tasks]
    tables += [pairs(results), efficiency(results), trainings(results), published(results)]
    return [table for table in tables if table.rows]


def overview(results: Results) -> Table:
    """Systems by tasks: mean Dice with its interval, spread over seeds and p against the best."""
    tasks = results.tasks
    order = [system for system, _, _ in results.ranking()] or list(results.systems)
    ranks = {system: rank for system, rank, _ in results.ranking()}
    rows, records = [], []
    for system in order:
        row = [Entry(system), Entry(f"{ranks[system]:.2f}" if system in ranks else NOTHING)]
        for task in tasks:
            score = results.score(system, task)
            p = p_against_best(results.comparison(task), system)
            row.append(_overview_entry(results, task, system, score, p))
            records.append(_record(system, task, "dice", score, p))
        rows.append(tuple(row))
    return Table(
        name="overview",
        caption=(
            "Mean Dice over cases (95 % BCa interval over cases), standard deviation (SD) over "
            "seeds, and p against the best mean of the column (paired permutation test, "
            "Holm-corrected over all pairs). The best mean is bold where it was tested; it is "
            "better than another only where that one's p is small. Rank: mean over the test "
            "parts; 1 is best, and a system without a score there is last."
            f"{_by_convention(results)}"
        ),
        head=("System", "Mean rank", *(task.title for task in tasks)),
        rows=tuple(rows),
        names=1,
        columns=_SCORE_COLUMNS,
        records=tuple(records),
    )


_SCORE_COLUMNS = (
    "system",
    "train_data",
    "data",
    "metric",
    "mean",
    "low",
    "high",
    "cases",
    "patients",
    "left_out",
    "seeds",
    "seed_sd",
    "failures",
    "p_holm_against_best",
)


def scores(results: Results, task: Task) -> Table:
    """Every metric of every system on one task."""
    rows, records, counts = [], [], set()
    compared = {
        system: {each.attribute: each for each in results.equity(system, task)}
        for system in results.systems
    }
    attributes = sorted({name for of_system in compared.values() for name in of_system})
    for system in results.systems:
        row = [Entry(system)]
        for metric in results.metrics:
            score = results.score(system, task, metric)
            p = p_against_best(results.comparison(task), system) if metric == "dice" else None
            row.append(_entry(score, distance=lower_is_better(metric)))
            records.append(_record(system, task, metric, score, p))
        row += [_worst(compared[system].get(name)) for name in attributes]
        score = results.score(system, task)
        row.append(Entry(NOTHING if score is None else str(score.failures)))
        row.append(Entry(NOTHING if score is None else str(score.seeds)))
        rows.append(tuple(row))
        if score is not None:
            counts.add(_over(score))
    down = [metric_title(metric) for metric in results.metrics if lower_is_better(metric)]
    lower = f" Of {', '.join(down)} less is better." if down else ""
    twins = results.twins(task)
    seen = ""
    if twins is not None and twins.cases:
        seen = (
            f" {plural(twins.cases, 'case')} of {task.test} nearly alike to images of "
            f"{task.train}, {twins.learnt:,} of them to some it was trained or chosen on."
        )
    return Table(
        name=f"scores-{task.file}",
        caption=(
            f"{task.title}: mean over {' or '.join(sorted(counts)) or 'no cases'}, of the mean "
            f"over seeds of each (95 % BCa interval).{lower}{_by_convention(results)}{seen}"
        ),
        head=(
            "System",
            *map(metric_title, results.metrics),
            *(f"Worst {name}" for name in attributes),
            "Failures",
            "Seeds",
        ),
        rows=tuple(rows),
        names=1,
        columns=_SCORE_COLUMNS,
        records=tuple(records),
    )


def groups(results: Results, task: Task) -> Table:
    """How equally good each system is on one task for the groups of each attribute."""
    metrics = [name for name in EQUITY_METRICS if name == "dice" or name in results.metrics]
    found: dict[tuple[str, str], list[Equity]] = {}
    for system in results.systems:
        for metric in metrics:
            for each in results.equity(system, task, metric):
                found.setdefault((each.attribute, system), []).append(each)
    # Systems keep their order.
    places = sorted(found, key=lambda place: place[0])
    records = [
        _group_record(system, task, each, group)
        for attribute, system in places
        for each in found[attribute, system]
        for group in each.groups
    ]
    return Table(
        name=f"groups-{task.file}",
        caption=(
            f"{task.title}, by groups of patients: the mean over cases divided by 1 plus the sum "
            "of its distances from the means of the groups; the group with the lowest Dice (95 % "
            "BCa interval); how far it is below the best; in what share of random groupings the "
            "groups are as far apart; and each group's Dice (cases). Of each case the mean over "
            "seeds counts."
        ),
        head=(
            "Attribute",
            "System",
            *(f"Equity-scaled {metric_title(metric)}" for metric in metrics),
            "Worst group",
            "Gap",
            "p",
            "Groups",
        ),
        rows=tuple(_group_row(*place, found[place]) for place in places),
        names=2,
        columns=tuple(records[0]) if records else (),
        records=tuple(records),
    )


def _group_row(attribute: str, system: str, by_metric: Sequence[Equity]) -> tuple[Entry, ...]:
    dice = by_metric[0]
    means = {name: mean for name, mean in dice.groups.items() if mean.mean is not None}
    return (
        Entry(attribute),
        Entry(system),
        *(Entry(_share(each.equity_scaled)) for each in by_metric),
        _worst(dice),
        Entry(_share(dice.gap)),
        Entry(_p(dice.p)),
        Entry("", tuple(f"{name} {_share(mean.mean)} ({mean.n})" for name, mean in means.items())),
    )


def _group_record(system: str, task: Task, found: Equity, group: str) -> dict[str, Any]:
    mean = found.groups[group]
    return {
        "attribute": found.attribute,
        "system": system,
        "train_data": task.train,
        "data": task.test,
        "metric": found.metric,
        "overall": found.overall,
        "equity_scaled": found.equity_scaled,
        "worst": found.worst,
        "gap": found.gap,
        "p": found.p,
        "unknown": found.unknown,
        "group": group,
        "mean": mean.mean,
        "low": mean.low,
        "high": mean.high,
        "cases": mean.n,
    }


def _share(value: float | None) -> str:
    return NOTHING if value is None else number(value, 1)


def _worst(found: Equity | None) -> Entry:
    """The worst group's mean, and which it is."""
    if found is None or found.worst is None:
        return Entry(NOTHING)
    mean = found.groups[found.worst]
    assert mean.mean is not None
    bounds = () if mean.low is None or mean.high is None else (_bounds(mean.low, mean.high, 1),)
    return Entry(number(mean.mean, 1), (found.worst, *bounds))


def _by_convention(results: Results) -> str:
    """A sentence for a caption; numbers of different conventions do not compare."""
    if results.convention == "default":
        return " Metrics are defined as medseg does by default."
    return f" Metrics are computed as {results.convention} does."


def pairs(results: Results) -> Table:
    """Every pair of systems on every task, tested on Dice."""
    rows, records = [], []
    for task in results.tasks:
        comparison = results.comparison(task)
        for pair in comparison.pairs if comparison else ():
            by = pair.advantage
            bounds = (
                () if by.low is None or by.high is None else (_bounds(by.low, by.high, by.mean),)
            )
            rows.append(
                (
                    Entry(task.title),
                    Entry(pair.better),
                    Entry(pair.other),
                    Entry(NOTHING if by.mean is None else number(by.mean), bounds),
                    Entry(_p(pair.p_holm)),
                    Entry(_p(pair.p_wilcoxon_holm)),
                    Entry(NOTHING if pair.needed is None else f"{pair.needed:,}"),
                )
            )
            records.append(
                {
                    "train_data": task.train,
                    "data": task.test,
                    "better": pair.better,
                    "other": pair.other,
                    "advantage": by.mean,
                    "low": by.low,
                    "high": by.high,
                    "cases": by.n,
                    "p": pair.p,
                    "p_holm": pair.p_holm,
                    "p_wilcoxon": pair.p_wilcoxon,
                    "p_wilcoxon_holm": pair.p_wilcoxon_holm,
                    "needed": pair.needed,
                }
            )
    return Table(
        name="pairs",
        caption=(
            "By how much Dice the better of two systems is ahead (95 % BCa interval), p of the "
            "paired permutation test and of Wilcoxon's signed-rank test, Holm-corrected over the "
            "pairs of a task, and how many cases (or patients) would show such a difference with "
            "80 % power at alpha 0.05, uncorrected."
        ),
        head=("Task", "Better", "Other", "By", "p", "p Wilcoxon", "Cases needed"),
        rows=tuple(rows),
        names=3,
        columns=tuple(records[0]) if records else (),
        records=tuple(records),
    )


def pairs_with_best(results: Results) -> Table:
    """The rows of `pairs` with the best system of each task, where all would be too many."""
    every = pairs(results)
    if len(every.rows) <= _MOST_PAIRS:
        return every
    best = {task.title: best_system(results.comparison(task)) for task in results.tasks}
    kept = [row for row in every.rows if best[row[0].text] in (row[1].text, row[2].text)]
    caption = f"{every.caption} Only pairs with the best system; pairs.csv has all."
    return replace(every, rows=tuple(kept), caption=caption)


def efficiency(results: Results) -> Table:
    """Size, arithmetic, memory and speed of each system."""
    rows, records = [], []
    for system in results.systems:
        said = results.efficiency.get(system, {})
        times = [
            cell.train_seconds
            for data in results.data
            for cell in results.of(system, data)
            if cell.train_seconds is not None
        ]
        record: dict[str, Any] = {
            "system": system,
            "parameters": results.parameters(system),
            **{key: said.get(key) for key in _MEASURED},
            "patch": times_text(said["patch"]) if said.get("patch") else None,
            "train_seconds_mean": sum(times) / len(times) if times else None,
        }
        records.append(record)
        rows.append(
            (
                Entry(system),
                Entry(_count(record["parameters"])),
                Entry(_count(record["macs"])),
                _latency(record["latency_ms_median"], record["latency_ms_iqr"]),
                _latency(
                    record["onnx_latency_ms_median"],
                    record["onnx_latency_ms_iqr"],
                    record["onnx_note"],
                ),
                Entry(_rounded(record["inference_peak_mb"])),
                Entry(_rounded(record["training_peak_mb"])),
                Entry(_rounded(record["train_seconds_mean"])),
            )
        )
    return Table(
        name="efficiency",
        caption=" ".join(["What each system costs.", *_conditions(results)]),
        head=(
            "System",
            "Parameters",
            "MACs",
            "Latency, ms",
            "ONNX, ms",
            "Inference, MB",
            "Training, MB",
            "Training, s",
        ),
        rows=tuple(rows),
        names=1,
        columns=tuple(records[0]),
        records=tuple(records),
    )


_MEASURED = (
    "macs",
    "inference_peak_mb",
    "training_peak_mb",
    "batch_size",
    "latency_ms_median",
    "latency_ms_iqr",
    "onnx_latency_ms_median",
    "onnx_latency_ms_iqr",
    "onnx_note",
    "threads",
    "image_size",
)


def _latency(median: float | None, spread: float | None, note: str | None = None) -> Entry:
    if median is None:
        return Entry(NOTHING, (note,) if note else ())
    return Entry(f"{median:.4g}", () if spread is None else (f"IQR {spread:.2g}",))


def times_text(sides: Sequence[int]) -> str:
    """``"16 x 24 x 24"``."""
    return " x ".join(map(str, sides))


def _conditions(results: Results) -> list[str]:
    """Under what the numbers of `efficiency` were measured."""
    if not results.efficiency:
        return ["Latency, MACs and memory were not measured."]
    measured = results.efficiency.values()
    threads, batches = (
        {int(said[key]) for said in measured if said.get(key)} for key in ("threads", "batch_size")
    )
    windows = {said["patch"] for said in measured if said.get("patch")}
    sizes = {
        int(said["image_size"])
        for said in measured
        if said.get("image_size") and not said.get("patch")
    }
    inputs = []
    if sizes:
        squares = " or ".join(f"{size} x {size}" for size in sorted(sizes))
        inputs.append(f"one image of {squares} pixels")
    if windows:
        cuboids = " or ".join(times_text(each) for each in sorted(windows))
        inputs.append(f"one window of {cuboids} voxels for systems of volumes")
    sentences = []
    if inputs:
        sentences.append(f"Measured with {', or '.join(inputs)}")
    if threads:
        counted = " or ".join(map(str, sorted(threads)))
        sentences.append(f"on {counted} CPU thread" + ("" if threads == {1} else "s"))
    conditions = [", ".join(sentences) + "."] if sentences else []
    without = [system for system in results.systems if system not in results.efficiency]
    if without:
        conditions.append(f"Not measured: {', '.join(without)}.")
    if batches:
        steps = " or ".join(map(str, sorted(batches)))
        units = ["images"] * bool(sizes or not windows) + ["windows"] * bool(windows)
        conditions.append(f"Memory of training is that of a step on {steps} {' or '.join(units)}.")
    return [
        *conditions,
        "Latency is the median, of PyTorch and of ONNX Runtime; training time is the mean over "
        "trainings.",
    ]


def trainings(results: Results) -> Table:
    """Every cell of the grid."""
    rows, records = [], []
    for cell in results.cells:
        record = {
            "system": cell.system,
            "data": cell.data,
            "seed": cell.seed,
            "status": cell.status,
            "error": cell.error,
            "val_dice": cell.val_dice,
            "epochs": cell.epochs,
            "best_epoch": cell.best_epoch,
            "train_seconds": cell.train_seconds,
            "peak_memory_gb": cell.peak_memory_gb,
        }
        records.append(record)
        rows.append(
            (
                Entry(cell.system),
                Entry(cell.data),
                Entry(str(cell.seed)),
                Entry(cell.status, (cell.error,) if cell.status != OK else ()),
                Entry(NOTHING if cell.val_dice is None else number(cell.val_dice, 1)),
                Entry(
                    NOTHING if cell.epochs is None else str(cell.epochs),
                    () if cell.best_epoch is None else (f"best {cell.best_epoch}",),
                ),
                Entry(_rounded(cell.train_seconds)),
                Entry(NOTHING if cell.peak_memory_gb is None else f"{cell.peak_memory_gb:.2f}"),
            )
        )
    return Table(
        name="trainings",
        caption="Every training: validation Dice chose the epoch; the test part had no say.",
        head=(
            "System",
            "Data",
            "Seed",
            "Status",
            "Validation Dice",
            "Epochs",
            "Seconds",
            "Memory, GB",
        ),
        rows=tuple(rows),
        names=4,
        columns=tuple(records[0]) if records else (),
        records=tuple(records),
    )


def published(results: Results) -> Table:
    """Numbers from the literature beside ours; they take no part in any ranking."""
    rows, records = [], []
    for entry in results.published:
        task = Task(entry.data, entry.data)
        own = task in results.tasks and entry.metric in results.metrics
        score = results.score(entry.system, task, entry.metric) if own else None
        ours = None if score is None else score.mean
        records.append(
            {
                "system": entry.system,
                "data": entry.data,
                "metric": entry.metric,
                "published": entry.value,
                "published_cases": entry.n,
                "protocol": entry.protocol,
                "source": entry.source,
                "note": entry.note,
                "ours": None if ours is None else ours.mean,
                "ours_low": None if ours is None else ours.low,
                "ours_high": None if ours is None else ours.high,
                "ours_cases": None if ours is None else ours.n,
            }
        )
        rows.append(
            (
                Entry(entry.system),
                Entry(entry.data),
                Entry(metric_title(entry.metric)),
                Entry(entry.source, (entry.note,) if entry.note else ()),
                Entry(entry.protocol),
                Entry(
                    f"{entry.value:g}", () if entry.n is None else (plural(int(entry.n), "case"),)
                ),
                _entry(score, distance=lower_is_better(entry.metric)),
            )
        )
    return Table(
        name="published",
        caption=(
            "Published numbers and the protocol they were made by. They come from other splits, "
            "sizes or rules, so they take no part in the ranking, and no test compares them."
        ),
        head=("System", "Data", "Metric", "Source", "Its protocol", "Published", "Ours"),
        rows=tuple(rows),
        names=5,
        columns=tuple(records[0]) if records else (),
        records=tuple(records),
    )


def p_against_best(comparison: Comparison | None, system: str) -> float | None:
    """The Holm-corrected p between a system and the one with the best mean.

    None for the best itself, where nothing was tested, and where the best two means are equal.
    """
    best = best_system(comparison)
    if comparison is None or best is None:
        return None
    return next(
        (pair.p_holm for pair in comparison.pairs if {pair.better, pair.other} == {best, system}),
        None,
    )


def best_system(comparison: Comparison | None) -> str | None:
    """The one with the best mean; None where nothing was tested or two share it."""
    if comparison is None or all(pair.p_holm is None for pair in comparison.pairs):
        return None
    first = [system.name for system in comparison.systems if system.rank == 1]
    return first[0] if len(first) == 1 else None


def _overview_entry(
    results: Results, task: Task, system: str, score: Score | None, p: float | None
) -> Entry:
    if score is None or score.mean.mean is None:
        return Entry(NOTHING, ("no score",))
    entry = _entry(score)
    said = list(entry.small)
    if score.seed_sd is not None:
        said.append(f"SD {number(score.seed_sd)}")
    if p is not None:
        said.append(f"p {p_value(p)}")
    if score.seeds < len(results.seeds):
        said.append(f"{score.seeds} of {len(results.seeds)} seeds")
    if score.failures:
        said.append(plural(score.failures, "failure"))
    best = best_system(results.comparison(task)) == system
    return Entry(entry.text, tuple(said), best)


def _entry(score: Score | None, *, distance: bool = False) -> Entry:
    """Mean and interval."""
    if score is None or score.mean.mean is None:
        return Entry(NOTHING)
    mean, low, high = score.mean.mean, score.mean.low, score.mean.high
    finest = mean if distance else 1
    if low is None or high is None:
        alone = "one case" if score.mean.n == 1 else "one patient"
        return Entry(number(mean, finest), (f"{alone}: no interval",))
    return Entry(number(mean, finest), (_bounds(low, high, finest),))


def _record(
    system: str, task: Task, metric: str, score: Score | None, p: float | None
) -> dict[str, Any]:
    mean = None if score is None else score.mean
    return {
        "system": system,
        "train_data": task.train,
        "data": task.test,
        "metric": metric,
        "mean": None if mean is None else mean.mean,
        "low": None if mean is None else mean.low,
        "high": None if mean is None else mean.high,
        "cases": None if mean is None else mean.n,
        "patients": None if mean is None else mean.groups,
        "left_out": None if mean is None else mean.skipped,
        "seeds": None if score is None else score.seeds,
        "seed_sd": None if score is None else score.seed_sd,
        "failures": None if score is None else score.failures,
        "p_holm_against_best": p,
    }


def _over(score: Score) -> str:
    said = plural(score.mean.n, "case")
    return said if score.mean.groups is None else f"{said} of {score.mean.groups:,} patients"


def _bounds(low: float, high: float, finest: float | None) -> str:
    return f"({number(low, finest)} to {number(high, finest)})"


def _p(p: float | None) -> str:
    return NOTHING if p is None else p_value(p).removeprefix("= ")


def _count(value: float | None) -> str:
    """``"2.07 M"``."""
    if value is None:
        return NOTHING
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:g}"


def _rounded(value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
