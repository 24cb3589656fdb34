"""One HTML file that tells how good a model is. It loads nothing and runs offline."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import IGNORE, LabelMap
from medseg.data.slices import Stack, open_slices
from medseg.data.source import Source
from medseg.errors import DataError
from medseg.files import write_text
from medseg.metrics import pairing
from medseg.metrics.evaluation import OK, Evaluation
from medseg.metrics.numbered import region_of
from medseg.metrics.panel import METRICS
from medseg.metrics.statistics import Interval
from medseg.report import figures, words
from medseg.report.overlay import (
    class_colour,
    draw_contours,
    mask_thumbnail,
    thumbnail,
    to_rgb,
)
from medseg.report.pages import load_page

if TYPE_CHECKING:
    from medseg.report.explained import Explained

PANEL_SIZE = 384
_BLANK_GREY = 96


@dataclass(frozen=True, slots=True)
class ReportCase:
    """A case to show.

    Attributes:
        id: the case's id.
        image: (H, W, C) uint8.
        truth: (H, W) class indices.
        prediction: (H, W) class indices, or None when there is no usable one.
        score: its mean Dice over classes; NaN when undefined.
    """

    id: str
    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8] | None
    score: float


class Picks(NamedTuple):
    """Ids of cases worth looking at; none is in two lists."""

    best: tuple[str, ...]
    median: tuple[str, ...]
    worst: tuple[str, ...]

    def all(self) -> tuple[str, ...]:
        return self.best + self.median + self.worst


def pick_cases(evaluation: Evaluation, k: int = 3) -> Picks:
    """The best, middle and worst cases by their mean Dice over classes.

    Args:
        evaluation: with at least one row.
        k: how many of each; fewer when there are fewer than 3k cases. Cases without a defined
            Dice are never picked. Of equal ones those whose truth shows something come first.
    """
    defined = {
        case: score
        for case, score in evaluation.case_means("dice").items()
        if not math.isnan(score)
    }
    shows = {row.case for row in evaluation.rows if row.truth_pixels}
    ordered = sorted(defined, key=lambda case: (-defined[case], case not in shows, case))
    k = max(1, min(k, len(ordered) // 3))
    best = tuple(ordered[:k])
    worst = tuple(case for case in ordered[::-1][:k] if case not in best)
    start = (len(ordered) - k) // 2
    median = tuple(case for case in ordered[start : start + k] if case not in best + worst)
    return Picks(best, median, worst)


def read_cases(evaluation: Evaluation, k: int = 3) -> list[ReportCase]:
    """Read the cases of `pick_cases` from the files they were scored from.

    Where there is no image, or one of another size, its place is taken by plain grey; an
    evaluation that was not read from files gives no cases. Of a volume, the slice with most of
    the truth is shown.
    """
    scores = evaluation.case_means("dice")
    failed = evaluation.failures()
    cases = []
    for case in pick_cases(evaluation, k).all():
        source = evaluation.sources.get(case)
        if source is None:
            continue
        truth_at, image_at = source.truth, source.image
        prediction_at = None
        if source.prediction is not None and case not in failed:
            prediction_at = open_slices(source.prediction)
            if evaluation.numbered.prediction:
                prediction_at = region_of(prediction_at)
        if isinstance(truth_at, Stack):
            index = _fullest(truth_at, evaluation)
            truth_at = truth_at.slices[index]
            image_at, prediction_at = (
                each.slices[index] if isinstance(each, Stack) else None
                for each in (image_at, prediction_at)
            )
        truth = pairing.read_truth(truth_at, evaluation.labels, evaluation.reading)
        truth[truth == IGNORE] = 0
        prediction = None
        if prediction_at is not None:
            prediction = pairing.encode_prediction(
                prediction_at.read_mask(),
                evaluation.labels,
                evaluation.prediction_labels,
                prediction_at,
            )
        image = _image_or_grey(image_at, truth.shape)
        cases.append(ReportCase(case, image, truth, prediction, scores[case]))
    return cases


def _fullest(volume: Stack, evaluation: Evaluation) -> int:
    """The slice that shows most of the truth."""
    truth = pairing.read_truth(volume, evaluation.labels, evaluation.reading)
    return int(((truth > 0) & (truth != IGNORE)).sum(axis=(1, 2)).argmax())


def write_report(
    path: Path,
    *,
    title: str,
    evaluation: Evaluation | None = None,
    history: Sequence[Mapping[str, Any]] | None = None,
    cases: Sequence[ReportCase] = (),
    explained: Sequence[Explained] = (),
    facts: Mapping[str, str] | None = None,
    note: str | None = None,
) -> None:
    """Write the report, atomically.

    Args:
        path: the HTML file.
        title: its title.
        evaluation: scores; without them the report has no numbers.
        history: the lines of ``metrics.jsonl``; ``loss`` and ``val_dice`` are drawn over
            ``epoch``.
        cases: shown as image, truth and prediction; they need ``evaluation`` for their classes.
        explained: heat maps to show.
        facts: what else to know of the run, name to value.
        note: a warning in the first line, e.g. of a leak between training and test cases.

    Raises:
        MedsegError: the file cannot be written.
    """
    from markupsafe import Markup

    template = load_page("report.html")
    history = history or ()
    curves = [
        figures.curve(history, "loss", "Training loss"),
        figures.curve(history, "val_dice", "Dice on validation cases", unit_range=True),
    ]
    page = template.render(
        title=title,
        note=note,
        facts=facts or {},
        curves=[Markup(svg) for svg in curves if svg],
        metrics=_metrics(evaluation),
        explained=[
            (each, _number(each.score), each.picture and png(each.picture)) for each in explained
        ],
        evaluation=None if evaluation is None else _numbers(evaluation, cases),
    )
    write_text(path, page)


def _metrics(evaluation: Evaluation | None) -> list[tuple[str, str]]:
    """Title, with the unit of distances, and meaning."""
    if evaluation is None:
        return []
    chosen = [METRICS[name] for name in evaluation.metrics]
    units = [f", {evaluation.unit}" if metric.distance else "" for metric in chosen]
    return [
        (f"{metric.title}{unit}", metric.meaning)
        for metric, unit in zip(chosen, units, strict=True)
    ]


def _numbers(evaluation: Evaluation, cases: Sequence[ReportCase]) -> dict[str, Any]:
    from markupsafe import Markup

    counts, names = evaluation.counts(), evaluation.metrics
    dice = evaluation.overall["dice"]
    summary = [
        (label.name, _rgb(index), evaluation.classes[label.name], evaluation.counts(label.name))
        for index, label in enumerate(evaluation.labels.structures, start=1)
    ]
    drawing = figures.distribution(
        evaluation.case_means("dice").values(), dice.mean, "Dice of each case"
    )
    return {
        "dice": dice,
        "sentence": words.headline(evaluation),
        "interval": _bounds(dice),
        "counts": counts,
        "summary": [
            (
                name,
                colour,
                [(_number(of[m].mean), _bounds(of[m]), of[m]) for m in names],
                count,
            )
            for name, colour, of, count in summary
        ],
        "overall": [
            (_number(evaluation.overall[m].mean), _bounds(evaluation.overall[m])) for m in names
        ],
        "failures": evaluation.failures(),
        "extra": evaluation.extra,
        "distribution": Markup(drawing),
        "groups": _groups(evaluation, cases),
        "rows": [
            (
                row,
                [(_number(row.metrics[m]), _sort_key(row.metrics[m])) for m in names],
            )
            for row in evaluation.rows
        ],
        "policy": evaluation.empty_policy,
        "convention": words.convention(evaluation),
        "objects": evaluation.numbered.words if evaluation.numbered else "",
        "confidence": f"{100 * evaluation.confidence:g}",
        "truth": evaluation.truth,
        "predictions": evaluation.predictions,
        "openings": words.openings(evaluation),
        "compared": _compared(evaluation),
        "ok": OK,
    }


def _compared(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The groups of each attribute, over all classes."""
    shown = []
    for attribute in evaluation.groups:
        found = [
            each for each in evaluation.equity if each.attribute == attribute and each.label is None
        ]
        if found:
            shown.append(
                {
                    "attribute": attribute,
                    "metrics": [METRICS[each.metric].title for each in found],
                    "rows": [
                        (
                            name,
                            mean.n,
                            [
                                (_number(each.groups[name].mean), _bounds(each.groups[name]))
                                for each in found
                            ],
                            name in {each.worst for each in found if each.gap},
                        )
                        for name, mean in found[0].groups.items()
                    ],
                    "lines": [
                        line
                        for line in (*map(words.equity, found), *words.group_caveats(found[0]))
                        if line
                    ],
                }
            )
    return shown


def _groups(
    evaluation: Evaluation, cases: Sequence[ReportCase]
) -> list[tuple[str, list[dict[str, Any]]]]:
    picks = pick_cases(evaluation)
    failed = evaluation.failures()
    titles = {"Best": picks.best, "Median": picks.median, "Worst": picks.worst}
    by_title: dict[str, list[dict[str, Any]]] = {title: [] for title in (*titles, "More cases")}
    for case in cases:
        title = next((title for title, ids in titles.items() if case.id in ids), "More cases")
        by_title[title].append(
            {
                "id": case.id,
                "score": _number(case.score),
                "status": failed.get(case.id, OK),
                "panels": _panels(case, evaluation.labels),
            }
        )
    return [(title, shown) for title, shown in by_title.items() if shown]


def _panels(case: ReportCase, labels: LabelMap) -> list[tuple[str, str | None]]:
    """Title and picture of each panel; None where there is no prediction to draw."""
    image = thumbnail(to_rgb(case.image), PANEL_SIZE)
    truth = mask_thumbnail(case.truth, PANEL_SIZE)
    panels: list[tuple[str, str | None]] = [
        ("Image", jpeg(image)),
        ("Truth", jpeg(draw_contours(image, truth, labels=labels))),
    ]
    if case.prediction is None:
        return [*panels, ("Prediction", None)]
    claimed = mask_thumbnail(case.prediction, PANEL_SIZE)
    drawn = draw_contours(image, claimed, truth=truth, labels=labels)
    return [*panels, ("Prediction", jpeg(drawn))]


def jpeg(picture: NDArray[np.uint8]) -> str:
    """A (H, W, 3) picture as a data URI."""
    from PIL import Image

    data = io.BytesIO()
    # Without chroma subsampling, which would smear thin coloured lines.
    Image.fromarray(picture).save(data, "JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")


def png(data: bytes) -> str:
    """A PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _image_or_grey(source: Source | None, size: tuple[int, ...]) -> NDArray[np.uint8]:
    if source is not None:
        try:
            image = source.read_image()
        except DataError:
            pass
        else:
            if image.shape[:2] == size:
                return image
    return np.full((*size, 1), _BLANK_GREY, dtype=np.uint8)


def _number(value: float | None) -> str:
    return "\N{EN DASH}" if value is None or math.isnan(value) else f"{value:.3f}"


def _bounds(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return ""
    return f"{interval.low:.3f} to {interval.high:.3f}"


def _sort_key(value: float) -> float:
    return -1.0 if math.isnan(value) else value


def _rgb(index: int) -> str:
    return "#" + "".join(f"{part:02x}" for part in class_colour(index))
