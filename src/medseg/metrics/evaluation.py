"""Scores of every case, their means with intervals, and the files they are written to.

No case is ever dropped: one whose prediction is missing or cannot be used is scored as if its
prediction were empty, under the policy ``"zero"`` whatever the evaluation's is, so that a crash
is never worth more than a wrong answer; and it is counted in `Counts.failures`.
"""

from __future__ import annotations

import csv
import io
import json
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.data.case import LabelMap
from medseg.data.groups import column_of
from medseg.data.source import Source
from medseg.errors import MedsegError
from medseg.files import write_text
from medseg.metrics import pairing
from medseg.metrics.conventions import DEFAULT_CONVENTION, Convention
from medseg.metrics.fairness import EQUITY_METRICS, Equity, equity
from medseg.metrics.numbered import BY_COMPONENTS, Numbered
from medseg.metrics.pair import DEFAULT_TOLERANCE
from medseg.metrics.panel import DEFAULT_METRICS, EmptyPolicy
from medseg.metrics.statistics import Interval, bootstrap_mean, spread
from medseg.metrics.workers import Map

if TYPE_CHECKING:
    from medseg.report.explained import Explained

OK = "ok"
MISSING = "missing prediction"
UNREADABLE = "unreadable prediction"
LABEL_VALUES = "label values"

REPORT_SUFFIXES = (".html", ".json", ".csv")


@dataclass(frozen=True, slots=True)
class CaseScore:
    """One foreground class of one case.

    Attributes:
        case: the case's id.
        label: the class's name.
        metrics: metric name to value; NaN where undefined or left out by the empty policy.
        truth_pixels: pixels of the class in the truth.
        predicted_pixels: pixels of the class in the prediction; 0 without a usable one.
        status: ``"ok"``, or why the prediction could not be used: ``"missing prediction"``,
            ``"unreadable prediction"``, ``"size mismatch (HxW against HxW)"`` (truth first),
            ``"geometry mismatch (...)"`` of volumes, or ``"label values"``.
        patient: whose case it is, or None when unknown.
    """

    case: str
    label: str
    metrics: Mapping[str, float]
    truth_pixels: int
    predicted_pixels: int
    status: str = OK
    patient: str | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened, in numbers; the last three count classes of cases with a usable prediction.

    Attributes:
        cases: cases scored, failures included.
        failures: cases without a usable prediction.
        empty_truths: the class is not in the truth; failures included.
        missed: the class is in the truth and not in the prediction.
        false_alarms: the class is in the prediction and not in the truth.
    """

    cases: int
    failures: int
    empty_truths: int
    missed: int
    false_alarms: int


@dataclass(frozen=True, slots=True)
class Sources:
    """Where one case was read from, for showing it again.

    Attributes:
        image: the image, when the truth is a dataset.
        truth: the true mask.
        field_of_view: where it is scored, or None for everywhere.
        prediction: the predicted mask, or None when it is missing.
    """

    image: Source | None
    truth: Source
    field_of_view: Source | None
    prediction: Path | None


@dataclass(frozen=True)
class Evaluation:
    """Everything that is known about how good a set of predictions is.

    Attributes:
        rows: a `CaseScore` for every foreground class of every case, in the order of cases.
        overall: metric to the mean over cases of each case's mean over classes.
        classes: class name to metric to the mean over cases.
        labels: the classes.
        empty_policy: what an empty truth met by an empty prediction is worth.
        truth: where the truth came from, as given.
        predictions: where the predictions came from, as given.
        extra: predictions without a truth; they are not scored.
        confidence: of the intervals, e.g. 0.95.
        seed: of the bootstrap.
        sources: case id to its files, where the masks were read from files.
        prediction_labels: how the predictions store the classes, where that differs.
        reading: how true masks are read.
        metrics: the names of the metrics, Dice first.
        unit: of distances: ``mm`` or ``px``.
        tolerance: of the surface Dice, in that unit.
        note: a warning to be read before the numbers, e.g. that cases were trained on.
        test_openings: how often the model's test part has been scored, this time included; 0 when
            none of its cases was.
        convention: by which the metrics were computed.
        numbered: whose masks number their objects.
        groups: attribute to case id to group, where the truth tells them.
        equity: of each attribute, of :data:`EQUITY_METRICS` as far as they were measured, of all
            classes and, where there are several, of each: how equally good the groups are.
    """

    rows: tuple[CaseScore, ...]
    overall: Mapping[str, Interval]
    classes: Mapping[str, Mapping[str, Interval]]
    labels: LabelMap
    empty_policy: EmptyPolicy
    truth: str = ""
    predictions: str = ""
    extra: tuple[str, ...] = ()
    confidence: float = 0.95
    seed: int = 0
    sources: Mapping[str, Sources] = field(default_factory=dict, repr=False)
    prediction_labels: LabelMap | None = None
    reading: pairing.Reading = pairing.DEFAULT_READING
    metrics: tuple[str, ...] = DEFAULT_METRICS
    unit: str = "px"
    tolerance: float = DEFAULT_TOLERANCE
    note: str = ""
    test_openings: int = 0
    convention: Convention = DEFAULT_CONVENTION
    numbered: Numbered = BY_COMPONENTS
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    equity: tuple[Equity, ...] = ()

    def counts(self, label: str | None = None) -> Counts:
        """Count over all classes, or for the class named ``label``."""
        rows = [row for row in self.rows if label in (None, row.label)]
        usable = [row for row in rows if row.status == OK]
        return Counts(
            cases=len({row.case for row in rows}),
            failures=len({row.case for row in rows if row.status != OK}),
            empty_truths=sum(not row.truth_pixels for row in rows),
            missed=sum(row.truth_pixels > 0 == row.predicted_pixels for row in usable),
            false_alarms=sum(row.predicted_pixels > 0 == row.truth_pixels for row in usable),
        )

    @property
    def conventional(self) -> tuple[str, ...]:
        """The metrics that the convention defines; the others are the default's."""
        return tuple(name for name in self.metrics if name in self.convention.functions)

    def failures(self) -> dict[str, str]:
        """Case id to status of every case without a usable prediction."""
        return {row.case: row.status for row in self.rows if row.status != OK}

    def case_means(self, metric: str) -> dict[str, float]:
        """Case id to the mean of ``metric`` over its classes; NaN where none is defined."""
        values: dict[str, list[float]] = {}
        for row in self.rows:
            values.setdefault(row.case, []).append(row.metrics[metric])
        return {case: _mean(of_case) for case, of_case in values.items()}

    def column(self, metric: str, label: str | None = None) -> Sequence[float]:
        """``metric`` of each case, in their order: of the class ``label``, or its mean over
        classes."""
        if label is None:
            return array("d", self.case_means(metric).values())
        return array("d", [row.metrics[metric] for row in self.rows if row.label == label])

    def _groups_of(self, case: str, unknown: str | None) -> dict[str, str | None]:
        """The columns that tell a case's groups."""
        return {column_of(name): of.get(case, unknown) for name, of in self.groups.items()}

    def to_json(self) -> str:
        """Everything but the sources as JSON; NaN is written as null."""
        return json.dumps(
            {
                "note": self.note,
                "test_openings": self.test_openings,
                "truth": self.truth,
                "predictions": self.predictions,
                "labels": [asdict(label) for label in self.labels.labels],
                "convention": self.convention.name,
                "convention_metrics": list(self.conventional),
                "numbered_objects": asdict(self.numbered),
                "empty_policy": self.empty_policy,
                "unit": self.unit,
                "tolerance": self.tolerance,
                "confidence": self.confidence,
                "seed": self.seed,
                "counts": asdict(self.counts()),
                "summary": {
                    "mean": {
                        name: _summary(interval, self.case_means(name).values())
                        for name, interval in self.overall.items()
                    },
                    "classes": {
                        label: {
                            name: _summary(
                                interval, [r.metrics[name] for r in self.rows if r.label == label]
                            )
                            for name, interval in of_class.items()
                        }
                        for label, of_class in self.classes.items()
                    },
                },
                "equity": [asdict(each) for each in self.equity],
                "extra_predictions": list(self.extra),
                "cases": [
                    {**_record(row, None), **self._groups_of(row.case, None)} for row in self.rows
                ],
            },
            indent=1,
            ensure_ascii=False,
            allow_nan=False,
        )

    def to_csv(self) -> str:
        """One line per class of a case; undefined values are left blank."""
        text = io.StringIO()
        fields = ["case", "patient", "class", "status", "truth_pixels", "predicted_pixels"]
        fields += [*self.metrics, *map(column_of, self.groups)]
        writer = csv.DictWriter(text, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**_record(row, ""), **self._groups_of(row.case, "")} for row in self.rows)
        return text.getvalue()

    def save(self, path: str | Path, *, explained: Sequence[Explained] = ()) -> None:
        """Write a ``.json``, ``.csv`` or ``.html`` file, atomically; ``explained`` are heat maps
        for the last.

        Raises:
            MedsegError: another suffix, or the file cannot be written.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".json":
            write_text(path, self.to_json() + "\n")
        elif suffix == ".csv":
            write_text(path, self.to_csv())
        elif suffix == ".html":
            from medseg.report.html import read_cases, write_report

            write_report(
                path,
                title="Evaluation",
                evaluation=self,
                cases=read_cases(self),
                explained=explained,
                note=self.note or None,
            )
        else:
            raise MedsegError(
                path, f"'{path.suffix}' is not a report format", "Use .html, .json or .csv"
            )


def summarise(
    rows: Iterable[CaseScore],
    labels: LabelMap,
    empty_policy: EmptyPolicy = "one",
    *,
    confidence: float = 0.95,
    seed: int = 0,
    truth: str = "",
    predictions: str = "",
    extra: Sequence[str] = (),
    sources: Mapping[str, Sources] | None = None,
    prediction_labels: LabelMap | None = None,
    reading: pairing.Reading = pairing.DEFAULT_READING,
    metrics: Sequence[str] = DEFAULT_METRICS,
    unit: str = "px",
    tolerance: float = DEFAULT_TOLERANCE,
    convention: Convention = DEFAULT_CONVENTION,
    numbered: Numbered = BY_COMPONENTS,
    groups: Mapping[str, Mapping[str, str]] | None = None,
    mapped: Map = map,
) -> Evaluation:
    """Means with bootstrap intervals over the rows of `score_case`; see `Evaluation`.

    Where patients are known, they are resampled rather than their cases. ``mapped`` says how the
    intervals are computed side by side.
    """
    evaluation = Evaluation(
        tuple(rows),
        {},
        {},
        labels,
        empty_policy,
        truth,
        predictions,
        tuple(extra),
        confidence,
        seed,
        sources or {},
        prediction_labels,
        reading,
        tuple(metrics),
        unit,
        tolerance,
        convention=convention,
        numbered=numbered,
        groups=groups or {},
    )
    patients = list({row.case: row.patient for row in evaluation.rows}.values())
    interval = partial(_interval, patients, confidence, seed)
    structures = [structure.name for structure in labels.structures]
    columns = [evaluation.column(name, label) for label in structures for name in metrics]
    # A single class is its own mean over classes.
    if len(structures) > 1:
        columns += [evaluation.column(name) for name in metrics]
    found = list(mapped(interval, columns))
    by_class = [
        dict(zip(metrics, found[start : start + len(metrics)], strict=True))
        for start in range(0, len(found), len(metrics))
    ]
    classes = dict(zip(structures, by_class, strict=False))
    return replace(
        evaluation,
        overall=by_class[-1],
        classes=classes,
        equity=_equity(evaluation, patients, structures),
    )


def _equity(
    evaluation: Evaluation, patients: Sequence[str | None], structures: Sequence[str]
) -> tuple[Equity, ...]:
    """Of the attributes by which the cases are of two groups or more."""
    cases = list(dict.fromkeys(row.case for row in evaluation.rows))
    labels = [None, *structures] if len(structures) > 1 else [None]
    return tuple(
        equity(
            evaluation.column(metric, label),
            [of_case.get(case) for case in cases],
            attribute=attribute,
            metric=metric,
            label=label,
            patients=patients,
            confidence=evaluation.confidence,
            seed=evaluation.seed,
        )
        for attribute, of_case in evaluation.groups.items()
        if len({of_case[case] for case in cases if case in of_case}) > 1
        for label in labels
        for metric in EQUITY_METRICS
        if metric in evaluation.metrics
    )


def _interval(
    patients: Sequence[str | None], confidence: float, seed: int, values: Sequence[float]
) -> Interval:
    return bootstrap_mean(values, groups=patients, confidence=confidence, seed=seed)


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _summary(interval: Interval, values: Iterable[float]) -> dict[str, Any]:
    """A mean with its interval, and the middle half of the cases."""
    middle = spread(values)
    quartiles = None if middle is None else [middle.lower, middle.upper]
    return {
        **asdict(interval),
        "median": None if middle is None else middle.median,
        "quartiles": quartiles,
    }


def _record(row: CaseScore, undefined: str | None) -> dict[str, Any]:
    return {
        "case": row.case,
        "patient": undefined if row.patient is None else row.patient,
        "class": row.label,
        "status": row.status,
        "truth_pixels": row.truth_pixels,
        "predicted_pixels": row.predicted_pixels,
        **{name: undefined if math.isnan(value) else value for name, value in row.metrics.items()},
    }
