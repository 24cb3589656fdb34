"""Heat maps of a report's worst, middle and best cases: what the network looked at there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice, zip_longest

from medseg.explain.explanation import Explainer
from medseg.explain.picture import draw
from medseg.explain.target import NothingToExplainError
from medseg.metrics.evaluation import Evaluation
from medseg.report.html import ReportCase, pick_cases, read_cases


@dataclass(frozen=True, slots=True)
class Explained:
    """An explanation to show.

    Attributes:
        id: the case's id.
        group: ``worst``, ``median`` or ``best``.
        score: its mean Dice over classes.
        picture: PNG of image, heat map, explained region and scores; None when there is none.
        reason: why there is none.
    """

    id: str
    group: str
    score: float
    picture: bytes | None
    reason: str = ""


def explain_cases(
    explainer: Explainer,
    evaluation: Evaluation,
    count: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Explained]:
    """Explain the worst, the middle and the best case, then the next of each, up to ``count``.

    Of a volume the slice with most of the truth is explained; each map is also scored against the
    true mask.

    Args:
        explainer: of the model that was scored.
        evaluation: its scores, read from files.
        count: how many; there are fewer where there are fewer cases.
        progress: called with (done, total).

    Raises:
        MedsegError: a file cannot be read any more.
    """
    chosen = _chosen(evaluation, count)
    cases = {case.id: case for case in read_cases(evaluation, count)}
    explained = []
    for done, (name, group) in enumerate(chosen, start=1):
        if name in cases:
            explained.append(_explain(explainer, cases[name], group))
        if progress is not None:
            progress(done, len(chosen))
    return explained


def _chosen(evaluation: Evaluation, count: int) -> list[tuple[str, str]]:
    """Case id and group, the groups in turn."""
    picks = pick_cases(evaluation, count)
    groups = {"worst": picks.worst, "median": picks.median, "best": picks.best}
    turns = zip_longest(*([(name, group) for name in ids] for group, ids in groups.items()))
    return list(islice((each for turn in turns for each in turn if each is not None), count))


def _explain(explainer: Explainer, case: ReportCase, group: str) -> Explained:
    try:
        explanation = explainer.explain(case.image, case.truth)
    except NothingToExplainError as error:
        return Explained(case.id, group, case.score, None, str(error))
    index = explainer.model.labels.names.index(explanation.label)
    picture = draw(case.image, explanation, name=case.id, truth=case.truth == index)
    return Explained(case.id, group, case.score, picture)
