"""Training with few labels: which cases keep their masks, and which images come without."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from medseg.data.case import Case, Split
from medseg.data.survey import Survey
from medseg.errors import DataError


def keep_labels(cases: Sequence[Case], count: int, seed: int) -> frozenset[str]:
    """Ids of the cases of ``count`` patients, drawn by ``seed`` in whatever order they come.

    A case without a patient stands for itself.

    Raises:
        DataError: there are fewer patients.
    """
    groups = sorted({_group(case) for case in cases})
    if count > len(groups):
        raise DataError(
            f"data.labelled={count}",
            f"only {len(groups)} patients or images to train on",
            f"Use at most {len(groups)}",
        )
    drawn = np.random.default_rng([seed, 2]).permutation(len(groups))[:count]
    kept = {groups[index] for index in drawn}
    return frozenset(case.id for case in cases if _group(case) in kept)


def images_without_masks(
    survey: Survey, parts: Mapping[str, Split], hidden: Collection[str]
) -> tuple[Case, ...]:
    """What may be learnt from without a mask: cases that have none, and ``hidden`` ones.

    Left out are cases of which the patient or an alike image stands in another part than train,
    and those published for another part.

    Args:
        survey: of the dataset.
        parts: case id to part.
        hidden: ids of training cases whose masks are not used.

    Returns:
        The cases, without masks.
    """
    clusters = survey.clusters
    readable = {facts.id for facts in survey.cases}
    held_out = [case for case in survey.dataset.cases if parts.get(case.id, "train") != "train"]
    patients = {case.patient for case in held_out if case.patient is not None}
    alike = {clusters[case.id] for case in held_out if case.id in clusters}

    def usable(case: Case) -> bool:
        return (
            case.id in readable
            and (case.id in hidden or case.mask is None)
            and case.split in (None, "train")
            and case.patient not in patients
            and clusters.get(case.id) not in alike
        )

    return tuple(_without_masks(filter(usable, survey.dataset.cases)))


def _without_masks(cases: Iterable[Case]) -> Iterable[Case]:
    return (replace(case, mask=None, field_of_view=None) for case in cases)


def _group(case: Case) -> str:
    return case.id if case.patient is None else f"patient {case.patient}"
