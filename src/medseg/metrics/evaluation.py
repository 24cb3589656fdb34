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
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import IGNORE, LabelMap, Region
from medseg.data.registry import described
from medseg.data.slices import Stack, misplaced, open_slices, spacing_of
from medseg.data.source import Source
from medseg.errors import DataError, MedsegError
from medseg.files import write_text
from medseg.metrics import pairing
from medseg.metrics.conventions import DEFAULT_CONVENTION, Convention
from medseg.metrics.pair import DEFAULT_TOLERANCE, Pair
from medseg.metrics.panel import DEFAULT_METRICS, EmptyPolicy, measure, metrics_named
from medseg.metrics.statistics import Interval, bootstrap_mean, spread

OK = "ok"
MISSING = "missing prediction"
UNREADABLE = "unreadable prediction"
LABEL_VALUES = "label values"

PROBABILITIES = "probabilities"
"""The folder beside predicted masks that holds their probabilities."""

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
                "extra_predictions": list(self.extra),
                "cases": [_record(row, None) for row in self.rows],
            },
            indent=1,
            ensure_ascii=False,
            allow_nan=False,
        )

    def to_csv(self) -> str:
        """One line per class of a case; undefined values are left blank."""
        text = io.StringIO()
        fields = ["case", "patient", "class", "status", "truth_pixels", "predicted_pixels"]
        fields += self.metrics
        writer = csv.DictWriter(text, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_record(row, "") for row in self.rows)
        return text.getvalue()

    def save(self, path: str | Path) -> None:
        """Write a ``.json``, ``.csv`` or ``.html`` file, atomically.

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
                note=self.note or None,
            )
        else:
            raise MedsegError(
                path, f"'{path.suffix}' is not a report format", "Use .html, .json or .csv"
            )


def score_case(
    truth: NDArray[Any],
    prediction: NDArray[Any] | None,
    labels: LabelMap,
    empty_policy: EmptyPolicy = "one",
    *,
    case: str = "",
    status: str = OK,
    patient: str | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    probabilities: NDArray[np.floating[Any]] | None = None,
    spacing: Sequence[float] | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    convention: Convention = DEFAULT_CONVENTION,
) -> list[CaseScore]:
    """Score every foreground class of one case.

    Args:
        truth: (H, W) class indices, of a volume (S, H, W); those that are ``IGNORE`` are not
            scored.
        prediction: the same, or None when there is no usable one.
        labels: the classes.
        empty_policy: what an empty truth met by an empty prediction is worth.
        case: the case's id.
        status: why ``prediction`` is None; a prediction of another size or with an index that
            ``labels`` does not have gets its status here.
        patient: whose case it is.
        metrics: names of :data:`medseg.metrics.panel.METRICS`.
        probabilities: (K, H, W) of all classes, or (1, H, W) of the foreground of a binary task;
            for metrics that need them.
        spacing: of the pixels along each axis, in mm; distances are in pixels when None.
        tolerance: of the surface Dice, in that unit.
        convention: by which metrics are computed; a failure is scored by the default's rules.

    Returns:
        One row per structure, in the order of ``labels``: each foreground class, or each region.
    """
    if prediction is None:
        status = MISSING if status == OK else status
    elif prediction.shape != truth.shape:
        sizes = ["x".join(map(str, mask.shape)) for mask in (truth, prediction)]
        status = f"size mismatch ({sizes[0]} against {sizes[1]})"
    elif prediction.size and not 0 <= prediction.min() <= prediction.max() < len(labels.labels):
        status = LABEL_VALUES
    usable = status == OK and prediction is not None
    claimed = prediction if usable and prediction is not None else np.zeros_like(truth)
    known = truth != IGNORE if (truth == IGNORE).any() else None
    functions = convention.functions
    rows = []
    for structure in labels.structures:
        there, here = np.isin(truth, structure.classes), np.isin(claimed, structure.classes)
        pair = Pair(
            there,
            here,
            known,
            probability=_probability_of(structure, probabilities if usable else None, there.shape),
            spacing=spacing,
            tolerance=tolerance,
        )
        rows.append(
            CaseScore(
                case=case,
                label=structure.name,
                metrics=measure(pair, metrics, empty_policy=empty_policy, functions=functions)
                if usable
                else measure(pair, metrics, empty_policy="zero"),
                truth_pixels=int(np.count_nonzero(pair.truth)),
                predicted_pixels=int(np.count_nonzero(pair.prediction)),
                status=status,
                patient=patient,
            )
        )
    return rows


def _probability_of(
    structure: Region, probabilities: NDArray[np.floating[Any]] | None, shape: tuple[int, ...]
) -> NDArray[np.floating[Any]]:
    """(H, W) of one structure; 0 everywhere without a usable prediction."""
    if probabilities is None:
        return np.zeros(shape)
    if len(probabilities) == 1:
        foreground: NDArray[np.floating[Any]] = probabilities[0]
        return foreground
    total: NDArray[np.floating[Any]] = probabilities[list(structure.classes)].sum(axis=0)
    return total.clip(0, 1)


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
) -> Evaluation:
    """Means with bootstrap intervals over the rows of `score_case`; see `Evaluation`.

    Where patients are known, they are resampled rather than their cases.
    """
    rows = tuple(rows)

    patient_of = {row.case: row.patient for row in rows}

    def interval(values: Mapping[str, float]) -> Interval:
        patients = [patient_of[case] for case in values]
        return bootstrap_mean(values.values(), groups=patients, confidence=confidence, seed=seed)

    classes = {
        structure.name: {
            name: interval(
                {row.case: row.metrics[name] for row in rows if row.label == structure.name}
            )
            for name in metrics
        }
        for structure in labels.structures
    }
    evaluation = Evaluation(
        rows,
        {},
        classes,
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
    )
    overall = {name: interval(evaluation.case_means(name)) for name in metrics}
    return replace(evaluation, overall=overall)


def evaluate_folders(
    truth: Path,
    predictions: Path,
    *,
    layout: str = "auto",
    group_pattern: str | None = None,
    empty_policy: EmptyPolicy = "one",
    labels: LabelMap | None = None,
    only: Collection[str] | None = None,
    reading: pairing.Reading = pairing.DEFAULT_READING,
    metrics: Sequence[str] = DEFAULT_METRICS,
    tolerance: float = DEFAULT_TOLERANCE,
    convention: Convention = DEFAULT_CONVENTION,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a folder of predicted masks.

    Files are read one pair at a time per thread; what is kept are the scores.

    Args:
        truth: a folder of masks, or a dataset's folder or manifest.
        predictions: a folder of masks named like the cases or their true masks; its
            ``predictions.json``, if there is one, says how they store the classes.
        layout: how a dataset lies on disk, where it cannot be recognised.
        group_pattern: a regular expression that finds the patient in a case id.
        empty_policy: what an empty truth met by an empty prediction is worth.
        labels: the classes of the truth; by default the dataset's ``labels.json``, else inferred
            from the masks.
        only: the ids of the cases to score, or None for all.
        reading: how true masks are read.
        metrics: names of :data:`medseg.metrics.panel.METRICS`.
        tolerance: of the surface Dice: mm when all cases are volumes of known spacing, else
            pixels, which is then also the unit of all distances.
        convention: by which the metrics are computed.
        confidence: of the intervals.
        seed: of the bootstrap.
        progress: called with the number of cases done and their total.

    Raises:
        DataError: the truth cannot be read, the classes differ, a case has two predictions, or no
            prediction belongs to any case.
    """
    truths, masks, declared = pairing.find_truths(
        truth, only, layout=layout, group_pattern=group_pattern
    )
    paired, extra = pairing.pair(truths, predictions)
    predicted = pairing.declared_by(predictions)
    known = labels or declared
    inferred = known is None
    if known is None:
        try:
            known = pairing.infer_labels(masks, truth, reading)
        except DataError:
            if predicted is None:
                raise
            known = predicted
    known, predicted = pairing.agree(known, inferred, predicted, predictions)
    classes, names = known, metrics_named(metrics)
    spacings = {item.case: spacing_of(item.mask) for item in truths}
    graded = [name for name in names if convention.needs_probability(name)]
    asking = ""
    if graded:
        own = graded[0] in convention.functions
        asking = f"--convention {convention.name}" if own else f"--metrics {graded[0]}"
    maps = _probability_files(truths, paired, predictions, asking)
    physical = all(spacing is not None for spacing in spacings.values())

    def score(item: pairing.Truth) -> list[CaseScore]:
        there = pairing.read_truth(item.mask, classes, reading, item.field_of_view)
        claimed, status = _read_prediction(paired.get(item.case), item.mask, classes, predicted)
        spacing = spacings[item.case] if physical else None
        return score_case(
            there,
            claimed,
            classes,
            empty_policy,
            case=item.case,
            status=status,
            patient=item.patient,
            metrics=names,
            probabilities=_read_probabilities(maps[item.case]) if item.case in maps else None,
            spacing=spacing if spacing is None else spacing[-there.ndim :],
            tolerance=tolerance,
            convention=convention,
        )

    rows: list[CaseScore] = []
    for done, scored in enumerate(pairing.in_order(score, truths), start=1):
        rows += scored
        if progress is not None:
            progress(done, len(truths))
    return summarise(
        rows,
        known,
        empty_policy,
        confidence=confidence,
        seed=seed,
        truth=described(truth),
        predictions=str(predictions),
        extra=extra,
        sources={
            t.case: Sources(t.image, t.mask, t.field_of_view, paired.get(t.case)) for t in truths
        },
        prediction_labels=predicted,
        reading=reading,
        metrics=names,
        unit="mm" if physical else "px",
        tolerance=tolerance,
        convention=convention,
    )


def _probability_files(
    truths: Sequence[pairing.Truth],
    paired: Mapping[str, Path],
    predictions: Path,
    asking: str,
) -> dict[str, Path]:
    """Case id to the probabilities that `medseg predict --probabilities` wrote beside its mask.

    Args:
        truths: the cases.
        paired: case id to its mask.
        predictions: the folder of these masks.
        asking: the option that needs probabilities; empty when none does.
    """
    if not asking:
        return {}
    if any(isinstance(truth.mask, Stack) for truth in truths):
        raise MedsegError(
            asking, "it needs probabilities, which are not scored for volumes",
            "Choose another",
        )  # fmt: skip
    found = {}
    for case, mask in paired.items():
        below = mask.relative_to(predictions).with_suffix(".npz")
        path = predictions / PROBABILITIES / below
        if not path.is_file():
            raise MedsegError(
                asking, f"it needs probabilities, and there is no {path}",
                "Predict with --probabilities, or give the model instead of its masks",
            )  # fmt: skip
        found[case] = path
    return found


def _read_probabilities(path: Path) -> NDArray[np.floating[Any]]:
    try:
        with np.load(path) as archive:
            values: NDArray[np.floating[Any]] = archive["probabilities"]
    except Exception as error:  # damaged archives make decoders raise almost anything
        raise DataError(path, f"cannot be read ({error})", "Predict it again") from error
    if values.ndim != 3 or values.dtype.kind != "f":
        raise DataError(
            path, f"holds an array of shape {values.shape} and type {values.dtype}",
            "Predict it again with --probabilities",
        )  # fmt: skip
    return values


def _read_prediction(
    path: Path | None, truth: Source, labels: LabelMap, declared: LabelMap | None
) -> tuple[NDArray[np.uint8] | None, str]:
    if path is None:
        return None, MISSING
    try:
        source = open_slices(path)
        apart = misplaced(truth, source, "prediction")
        if apart is not None and apart[0] == "geometry-mismatch":
            return None, f"geometry mismatch ({apart[1].replace('the image', 'the truth')})"
    except DataError:
        return None, UNREADABLE
    classes = []
    for part in source.slices if isinstance(source, Stack) else [source]:
        try:
            mask = part.read_mask()
        except DataError:
            return None, UNREADABLE
        try:
            classes.append(pairing.encode_prediction(mask, labels, declared, path))
        except DataError:
            return None, LABEL_VALUES
    return (np.stack(classes) if isinstance(source, Stack) else classes[0]), OK


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
