"""Scoring one case: its masks are read, and every structure is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import IGNORE, LabelMap, Region
from medseg.data.slices import Stack, misplaced, open_slices
from medseg.errors import DataError
from medseg.metrics import pairing
from medseg.metrics.conventions import DEFAULT_CONVENTION, Convention, convention_named
from medseg.metrics.evaluation import LABEL_VALUES, MISSING, OK, UNREADABLE, CaseScore
from medseg.metrics.numbered import BY_COMPONENTS, Numbered, read_numbers, region_of
from medseg.metrics.pair import DEFAULT_TOLERANCE, Numbers, Pair
from medseg.metrics.panel import DEFAULT_METRICS, EmptyPolicy, measure


@dataclass(frozen=True, slots=True)
class Job:
    """A case to be scored.

    Attributes:
        truth: its true mask.
        prediction: its predicted mask, or None when there is none.
        probabilities: their file, for metrics that need them.
        spacing: of the pixels of a volume along each axis, in mm; None for pixels.
    """

    truth: pairing.Truth
    prediction: Path | None
    probabilities: Path | None = None
    spacing: tuple[float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """How every case of an evaluation is read and scored.

    Attributes:
        labels: the classes.
        predicted: how predictions store them, where that differs.
        reading: how true masks are read.
        empty_policy: what an empty truth met by an empty prediction is worth.
        metrics: names of :data:`medseg.metrics.panel.METRICS`.
        tolerance: of the surface Dice.
        convention: name of one of :data:`medseg.metrics.conventions.CONVENTIONS`; a name,
            because its functions cannot be sent to another process.
        numbered: whose masks number their objects.
    """

    labels: LabelMap
    predicted: LabelMap | None
    reading: pairing.Reading
    empty_policy: EmptyPolicy
    metrics: tuple[str, ...]
    tolerance: float
    convention: str
    numbered: Numbered = BY_COMPONENTS

    def score(self, job: Job) -> list[CaseScore]:
        """Read a case's masks and score each of its structures.

        Raises:
            DataError: the truth, or a file of probabilities, cannot be read.
        """
        truth, numbered = job.truth, self.numbered
        mask = region_of(truth.mask) if numbered.truth else truth.mask
        there = pairing.read_truth(mask, self.labels, self.reading, truth.field_of_view)
        claimed, predicted, status = self._prediction(job)
        return score_case(
            there,
            claimed,
            self.labels,
            self.empty_policy,
            case=truth.case,
            status=status,
            patient=truth.patient,
            metrics=self.metrics,
            probabilities=None if job.probabilities is None else _graded(job.probabilities),
            spacing=None if job.spacing is None else job.spacing[-there.ndim :],
            tolerance=self.tolerance,
            convention=convention_named(self.convention),
            numbers=(
                read_numbers(truth.mask, self.reading.max_pixels) if numbered.truth else None,
                predicted,
            ),
        )

    def _prediction(self, job: Job) -> tuple[NDArray[np.uint8] | None, Numbers | None, str]:
        """Class indices and, where they are numbered, objects; or why there are none."""
        if job.prediction is None:
            return None, None, MISSING
        numbers = None
        try:
            source = open_slices(job.prediction)
            apart = misplaced(job.truth.mask, source, "prediction")
            if apart is not None and apart[0] == "geometry-mismatch":
                found = apart[1].replace("the image", "the truth")
                return None, None, f"geometry mismatch ({found})"
            if self.numbered.prediction:
                numbers = read_numbers(source, self.reading.max_pixels)
                source = region_of(source)
        except DataError:
            return None, None, UNREADABLE
        classes = []
        for part in source.slices if isinstance(source, Stack) else [source]:
            try:
                mask = part.read_mask()
            except DataError:
                return None, None, UNREADABLE
            try:
                classes.append(
                    pairing.encode_prediction(mask, self.labels, self.predicted, job.prediction)
                )
            except DataError:
                return None, None, LABEL_VALUES
        return (np.stack(classes) if isinstance(source, Stack) else classes[0]), numbers, OK


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
    numbers: tuple[Numbers | None, Numbers | None] = (None, None),
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
        numbers: maps of the true and the predicted objects, each value but 0 one object; None:
            the connected components of each structure.

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
            numbers=numbers if usable else (numbers[0], None),
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


def _graded(path: Path) -> NDArray[np.floating[Any]]:
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
