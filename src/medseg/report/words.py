"""Results in plain words."""

from __future__ import annotations

from collections.abc import Iterable

from medseg.engine.openings import ordinal
from medseg.errors import plural
from medseg.metrics.evaluation import Evaluation
from medseg.metrics.fairness import FEW_CASES, Equity
from medseg.metrics.panel import METRICS
from medseg.metrics.statistics import Interval


def plain_interval(interval: Interval, confidence: float = 0.95) -> str:
    """An interval in words: ``"0.89, 95 % interval 0.86 to 0.91"``."""
    if interval.mean is None:
        return "undefined"
    if interval.low is None or interval.high is None:
        return (
            f"{interval.mean:.2f}, no interval from a single "
            f"{'patient' if interval.groups else 'case'}"
        )
    bounds = f"{interval.low:.2f} to {interval.high:.2f}"
    return f"{interval.mean:.2f}, {100 * confidence:g} % interval {bounds}"


def headline(evaluation: Evaluation, metric: str = "dice") -> str:
    """The result in a sentence, e.g.

    ``"Dice 0.89, 95 % interval 0.86 to 0.91 over 66 cases, 1 failure"``.
    """
    counts = evaluation.counts()
    interval = evaluation.overall[metric]
    parts = [
        f"{METRICS[metric].title} {plain_interval(interval, evaluation.confidence)} "
        f"over {plural(interval.n, 'case')}"
        + (f" of {plural(interval.groups, 'patient')}" if interval.groups else "")
    ]
    if interval.skipped:
        parts.append(f"{interval.skipped} left out as undefined")
    parts.append(plural(counts.failures, "failure") if counts.failures else "no failures")
    return ", ".join(parts)


def convention(evaluation: Evaluation) -> str:
    """Whose rules which metrics follow; empty under the default's."""
    own = evaluation.conventional
    if evaluation.convention.name == "default":
        return ""
    others = [name for name in evaluation.metrics if name not in own]
    said = [f"convention {evaluation.convention.name} for {_titles(own) or 'none of these'}"]
    if others:
        said.append(f"default for {_titles(others)}")
    return "; ".join(said)


def equity(found: Equity) -> str:
    """How far apart the groups of an attribute are, e.g.

    ``"Dice: worst m, 0.040 below f; random groups differ as much in 21 % of trials"``.
    """
    if found.gap is None or found.p is None or found.equity_scaled is None:
        return ""
    title = METRICS[found.metric].title
    apart = f"worst {found.worst}, {found.gap:.3f} below {found.best}"
    if found.gap == 0:
        apart = "all groups alike"
    chance = f"{100 * found.p:.2g} %" if found.p >= 0.001 else "less than 0.1 %"
    return (
        f"{title}: {apart}; random groups differ as much in {chance} of trials; "
        f"equity-scaled {title} {found.equity_scaled:.3f}"
    )


def group_caveats(found: Equity) -> list[str]:
    """What to know before believing that groups differ."""
    said = []
    if found.small:
        said.append(
            f"fewer than {FEW_CASES} cases, whose mean says little: {', '.join(found.small)}"
        )
    if found.unknown:
        said.append(f"{plural(found.unknown, 'case')} of unknown {found.attribute}, left out here")
    return said


def _titles(names: Iterable[str]) -> str:
    return ", ".join(METRICS[name].title for name in names)


def openings(evaluation: Evaluation) -> str:
    """How often the model's test part has been looked at; empty when this does not."""
    if not evaluation.test_openings:
        return ""
    return f"test part opened for the {ordinal(evaluation.test_openings)} time"
