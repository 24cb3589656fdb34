"""Scoring a folder of predicted masks against the truth."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from medseg.data.case import LabelMap
from medseg.data.registry import described, find
from medseg.data.slices import Stack, open_slices, spacing_of
from medseg.data.source import Source
from medseg.errors import DataError, MedsegError
from medseg.metrics import pairing
from medseg.metrics.cases import Job, Rules
from medseg.metrics.conventions import DEFAULT_CONVENTION, Convention
from medseg.metrics.evaluation import CaseScore, Evaluation, Sources, summarise
from medseg.metrics.numbered import (
    BY_COMPONENTS,
    Numbered,
    number_objects,
    object_labels,
    region_of,
)
from medseg.metrics.pair import DEFAULT_TOLERANCE
from medseg.metrics.panel import DEFAULT_METRICS, EmptyPolicy, metrics_named
from medseg.metrics.workers import Map, spread

PROBABILITIES = "probabilities"
"""The folder beside predicted masks that holds their probabilities."""


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
    instances: bool = False,
    slices: str | None = None,
    attributes: Sequence[str] = (),
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a folder of predicted masks.

    Files are read one pair at a time per core; what is kept are the scores.

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
        instances: masks number their objects, 0 is background and all objects are of one class;
            metrics of objects go by these numbers. Known of a registered dataset. Where no
            predicted mask holds two numbers, or ``predictions.json`` says what they show, the
            connected components of a prediction are its objects.
        slices: which pictures are slices of volumes, as in :func:`medseg.data.slices.gather`;
            these are scored as volumes.
        attributes: columns of the truth whose groups are compared, besides those that it names
            as such (`medseg.data.groups`).
        workers: processes that read and score; 1 does all in this one. None: one for each core
            from :data:`medseg.metrics.workers.WORTH_PROCESSES` pictures on, threads for fewer.
            The result is the same to the bit.
        progress: called with the number of cases done and their total.

    Raises:
        DataError: the truth cannot be read, the classes differ, a case has two predictions, no
            prediction belongs to any case, or the objects of the truth are not numbered.
    """
    truths, masks, declared = pairing.find_truths(
        truth,
        only,
        layout=layout,
        group_pattern=group_pattern,
        pictures=slices,
        attributes=attributes,
    )
    paired, extra = pairing.pair(truths, predictions)
    pictures = sum(len(t.mask.slices) if isinstance(t.mask, Stack) else 1 for t in truths)
    with spread(workers, pictures) as mapped:
        numbered = _numbering(truth, masks, predictions, paired, reading, required=instances)
        if numbered:
            predicted = None if numbered.prediction else pairing.declared_by(predictions)
            known = object_labels(labels or declared, predicted)
        else:
            known, predicted = _classes(
                labels or declared, masks, truth, predictions, reading, mapped
            )
        names = metrics_named(metrics)
        spacings = {item.case: spacing_of(item.mask) for item in truths}
        graded = [name for name in names if convention.needs_probability(name)]
        asking = ""
        if graded:
            own = graded[0] in convention.functions
            asking = f"--convention {convention.name}" if own else f"--metrics {graded[0]}"
        maps = _probability_files(truths, paired, predictions, asking)
        physical = all(spacing is not None for spacing in spacings.values())
        rules = Rules(
            known, predicted, reading, empty_policy, names, tolerance, convention.name, numbered
        )
        jobs = [
            Job(t, paired.get(t.case), maps.get(t.case), spacings[t.case] if physical else None)
            for t in truths
        ]
        rows: list[CaseScore] = []
        for done, scored in enumerate(mapped(rules.score, jobs), start=1):
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
                t.case: Sources(
                    t.image,
                    region_of(t.mask) if numbered.truth else t.mask,
                    t.field_of_view,
                    paired.get(t.case),
                )
                for t in truths
            },
            prediction_labels=predicted,
            reading=reading,
            metrics=names,
            unit="mm" if physical else "px",
            tolerance=tolerance,
            convention=convention,
            numbered=numbered,
            groups=_groups(truths),
            mapped=mapped,
        )


def _groups(truths: Iterable[pairing.Truth]) -> dict[str, dict[str, str]]:
    """Attribute to case id to group."""
    found: dict[str, dict[str, str]] = {}
    for truth in truths:
        for attribute, group in truth.groups.items():
            found.setdefault(attribute, {})[truth.case] = group
    return dict(sorted(found.items()))


def _numbering(
    truth: Path,
    masks: Sequence[Source],
    predictions: Path,
    paired: Mapping[str, Path],
    reading: pairing.Reading,
    *,
    required: bool,
) -> Numbered:
    """Whose masks number their objects.

    Raises:
        DataError: it is required of the true masks, and they do not.
    """
    registered = find(truth)
    if not required and (registered is None or not registered.objects):
        return BY_COMPONENTS
    if not number_objects(masks, reading.max_pixels):
        if required:
            raise DataError(
                truth,
                "no mask numbers its objects: none holds two values besides 0",
                "Leave --instances out: connected components are then the objects",
            )
        return BY_COMPONENTS
    if (predictions / pairing.PREDICTIONS_FILE).exists():
        return Numbered(truth=True)
    return Numbered(truth=True, prediction=_number(paired.values(), reading))


def _number(files: Iterable[Path], reading: pairing.Reading) -> bool:
    """Whether predictions number their objects; those that cannot be read do not say."""
    for file in files:
        with suppress(DataError):
            if number_objects([open_slices(file)], reading.max_pixels):
                return True
    return False


def _classes(
    known: LabelMap | None,
    masks: Sequence[Source],
    truth: Path,
    predictions: Path,
    reading: pairing.Reading,
    mapped: Map,
) -> tuple[LabelMap, LabelMap | None]:
    """The classes of the truth, inferred where they are not known, and of the predictions."""
    predicted = pairing.declared_by(predictions)
    inferred = known is None
    if known is None:
        try:
            known = pairing.infer_labels(masks, truth, reading, mapped)
        except DataError:
            if predicted is None:
                raise
            known = predicted
    return pairing.agree(known, inferred, predicted, predictions)


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
