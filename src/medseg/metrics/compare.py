"""Comparing systems scored on the same cases: differences, tests, ranks and what they rest on."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medseg.errors import MedsegError, plural
from medseg.files import write_text
from medseg.metrics.paired import (
    Variation,
    cases_needed,
    cliques,
    critical_difference,
    friedman_test,
    holm,
    mean_ranks,
    permutation_test,
    rank_biserial,
    unit_sd,
    variation,
    wilcoxon_test,
)
from medseg.metrics.panel import METRICS
from medseg.metrics.statistics import (
    Interval,
    Spread,
    Values,
    bootstrap_mean,
    resampled_means,
    spread,
    unit_sums,
    units_of,
)
from medseg.metrics.tables import (
    ScoreTable,
    check_truth,
    patients_of,
    read_table,
    shared_cases,
)

ALPHA = 0.05
POWER = 0.8
RESAMPLES = 4999

LOWER_IS_BETTER = frozenset(
    {name for name, metric in METRICS.items() if metric.best == 0}
    | {"asd", "masd", "hausdorff", "object_hausdorff", "mae", "mse", "brier", "ece", "loss"}
)
"""Metrics of which 0 is best: ours, and what others call theirs."""

_EFFECTS = (
    *("wins", "ties", "losses", "d_z", "rank_biserial"),
    *("p", "p_holm", "p_wilcoxon", "p_wilcoxon_holm", "needed"),
)
FIGURE_SUFFIXES = (".png", ".svg")
SUFFIXES = (".json", ".csv", ".md", ".html", *FIGURE_SUFFIXES)


@dataclass(frozen=True, slots=True)
class SystemScore:
    """How good one system is.

    Attributes:
        name: as given.
        files: its tables, one for each seed.
        mean: over its defined cases, of the mean over seeds.
        spread: median and quartiles of the same values; None when no case is defined.
        failures: predictions of the cases compared that could not be used, over all seeds.
        seed_means: the mean over cases of each seed, over the cases defined in all of them.
        variation: over seeds and cases; None for a single seed or case.
        rank: by the mean over the cases that are defined for all systems, 1 is best; equal means
            share the better rank. None without such cases.
        rank_shares: the share of bootstrap resamples in which it has rank 1, 2, ...; None below
            two cases or patients.
        mean_rank: the mean over cases (or patients) of its rank among the systems.
    """

    name: str
    files: tuple[str, ...]
    mean: Interval
    spread: Spread | None
    failures: int
    seed_means: tuple[float, ...]
    variation: Variation | None
    rank: int | None = None
    rank_shares: tuple[float, ...] | None = None
    mean_rank: float | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Two systems on the cases that are defined for both.

    Attributes:
        better: the name of the system with the better mean.
        other: the other's.
        advantage: by how much ``better`` is better, in the metric's unit, whatever its direction.
        wins: on how many cases it is better.
        ties: on how many both are equal.
        losses: on how many the other is better.
        d_z: the advantage over the standard deviation of the differences between cases (or
            patients); None without one.
        rank_biserial: -1 to 1; 1 where it is better on every case (or patient).
        p: of the sign-flip permutation test; None below two cases or patients.
        p_holm: corrected for the number of pairs.
        p_wilcoxon: of Wilcoxon's signed-rank test.
        p_wilcoxon_holm: corrected for the number of pairs.
        needed: how many cases (or patients) would show this advantage with 80 % power at
            alpha 0.05, uncorrected; None where there is no difference or no spread is known.
    """

    better: str
    other: str
    advantage: Interval
    wins: int
    ties: int
    losses: int
    d_z: float | None
    rank_biserial: float
    p: float | None
    p_holm: float | None
    p_wilcoxon: float | None
    p_wilcoxon_holm: float | None
    needed: int | None


@dataclass(frozen=True)
class Comparison:
    """Everything that is known about which system is better.

    Attributes:
        metric: its name in the tables.
        lower_is_better: its direction.
        label: the class compared, or None for the mean over classes.
        cases: how many were compared.
        dropped: how many were left out because not all tables have them.
        patients: how many patients the cases come from; None where each case counts as its own.
        systems: in the order given.
        pairs: every pair of systems.
        complete: how many cases (or patients) the ranks rest on.
        friedman: p-value that all systems rank alike; None below three systems.
        critical_difference: Nemenyi's, of the mean ranks; None below three systems.
        groups: systems whose mean ranks cannot be told apart by it, best first.
        confidence: of the intervals.
        seed: of every resample.
    """

    metric: str
    lower_is_better: bool
    label: str | None
    cases: int
    dropped: int
    patients: int | None
    systems: tuple[SystemScore, ...]
    pairs: tuple[Difference, ...]
    complete: int
    friedman: float | None
    critical_difference: float | None
    groups: tuple[tuple[str, ...], ...]
    confidence: float
    seed: int

    @property
    def title(self) -> str:
        """The metric's name for readers."""
        return METRICS[self.metric].title if self.metric in METRICS else self.metric

    @property
    def unit(self) -> str:
        """What is resampled and exchanged: ``"case"`` or ``"patient"``."""
        return "case" if self.patients is None else "patient"

    @property
    def units(self) -> int:
        """How many of them there are."""
        return self.cases if self.patients is None else self.patients

    def ranked(self) -> list[SystemScore]:
        """The systems, best first; those without a rank last."""
        return sorted(self.systems, key=lambda system: (system.rank is None, system.rank))

    def to_json(self) -> str:
        """Everything as JSON."""
        return json.dumps(
            {
                **asdict(self),
                "alpha": ALPHA,
                "power": POWER,
                "unit": self.unit,
            },
            indent=1,
            ensure_ascii=False,
            allow_nan=False,
        )

    def to_csv(self) -> str:
        """One line per pair of systems."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        head = ["metric", "better", "other", "advantage", "low", "high", "cases", "left_out"]
        writer.writerow([*head, *_EFFECTS])
        for pair in self.pairs:
            by = pair.advantage
            numbers = [by.mean, by.low, by.high, by.n, by.skipped]
            row = [self.metric, pair.better, pair.other, *numbers]
            writer.writerow([*row, *(getattr(pair, name) for name in _EFFECTS)])
        return text.getvalue()

    def save(self, path: str | Path) -> None:
        """Write a ``.json``, ``.csv``, ``.md``, ``.html``, ``.png`` or ``.svg`` file, atomically.

        Pictures show the critical differences of the mean ranks.

        Raises:
            MedsegError: another suffix, a picture of fewer than three systems, or the file cannot
                be written.
        """
        from medseg.report import comparison, critical_difference

        path = Path(path)
        check_output(path, len(self.systems))
        suffix = path.suffix.lower()
        if suffix == ".json":
            write_text(path, self.to_json() + "\n")
        elif suffix == ".csv":
            write_text(path, self.to_csv())
        elif suffix == ".md":
            write_text(path, comparison.markdown(self))
        elif suffix == ".html":
            write_text(path, comparison.html(self))
        else:
            critical_difference.save(self, path)


class _Ranking(NamedTuple):
    """The attributes of the same names of :class:`Comparison`."""

    complete: int
    friedman: float | None
    critical_difference: float | None
    groups: tuple[tuple[str, ...], ...]


def check_output(path: Path, systems: int) -> None:
    """Make sure that :meth:`Comparison.save` can write ``path`` for so many systems.

    Raises:
        MedsegError: it cannot.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise MedsegError(
            path, f"'{path.suffix}' is not a format of comparisons", f"Use {', '.join(SUFFIXES)}"
        )
    if suffix in FIGURE_SUFFIXES and systems < 3:
        raise MedsegError(
            path,
            f"a critical-difference plot shows three systems or more, and these are {systems}",
            "Write .html, .md, .json or .csv",
        )


def compare(
    systems: Mapping[str, Sequence[Path]],
    *,
    metric: str = "dice",
    label: str | None = None,
    common: bool = False,
    lower_is_better: bool | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare systems by the tables of scores that ``medseg evaluate -o scores.csv`` writes.

    Cases are paired by id. Where a system has several tables, one for each seed it was trained
    with, the mean over seeds of each case is compared; seeds are no further cases. A case is left
    out, and counted, where it is undefined for any seed of a system in question.

    Args:
        systems: name to its tables; two or more systems.
        metric: which column.
        label: the class, or None for the mean over the classes of each case.
        common: compare the cases that all tables have, instead of refusing different ones.
        lower_is_better: the metric's direction; None takes it from :data:`LOWER_IS_BETTER`.
        confidence: of the intervals.
        seed: of every resample.

    Raises:
        DataError: a table cannot be read, or the tables do not belong together.
        MedsegError: fewer than two systems, or one without a table.
    """
    if len(systems) < 2:
        raise MedsegError(
            "medseg compare",
            f"{plural(len(systems), 'system')} to compare",
            "Give the tables of two or more",
        )
    for name, paths in systems.items():
        if not paths:
            raise MedsegError(name, "the system has no table", "Give one for each seed")
    tables = {
        name: tuple(read_table(Path(path), metric, label) for path in paths)
        for name, paths in systems.items()
    }
    every = tuple(itertools.chain.from_iterable(tables.values()))
    cases = shared_cases(every, common)
    check_truth(every, cases)
    patients = patients_of(every)
    groups = [patients.get(case) for case in cases]
    units = units_of(groups, len(cases))
    lower = metric in LOWER_IS_BETTER if lower_is_better is None else lower_is_better
    # (S, N) of each system
    values = {
        name: np.array([[table.values[case] for case in cases] for table in of_system])
        for name, of_system in tables.items()
    }

    def interval(of_cases: Values) -> Interval:
        return bootstrap_mean(of_cases, groups=groups, confidence=confidence, seed=seed)

    scores = tuple(_score(name, tables[name], cases, values[name], interval) for name in tables)
    sign = -1.0 if lower else 1.0
    # (N, K), higher is better
    merits = sign * np.stack([of_system.mean(axis=0) for of_system in values.values()], axis=1)
    names = list(tables)
    pairs = [
        _difference((names[i], names[j]), merits[:, i], merits[:, j], units, interval, seed)
        for i, j in itertools.combinations(range(len(names)), 2)
    ]
    scores, ranking = _rank(scores, merits, units, seed)
    counted = len(set(units.tolist()))
    return Comparison(
        metric=metric,
        lower_is_better=lower,
        label=label,
        cases=len(cases),
        dropped=len(set().union(*(table.values for table in every))) - len(cases),
        patients=counted if counted < len(cases) else None,
        systems=scores,
        pairs=_corrected(pairs),
        complete=ranking.complete,
        friedman=ranking.friedman,
        critical_difference=ranking.critical_difference,
        groups=ranking.groups,
        confidence=confidence,
        seed=seed,
    )


def _score(
    name: str,
    tables: Sequence[ScoreTable],
    cases: Sequence[str],
    values: NDArray[np.float64],
    interval: Callable[[Values], Interval],
) -> SystemScore:
    over_seeds = values.mean(axis=0)
    defined = values[:, ~np.isnan(over_seeds)]
    return SystemScore(
        name=name,
        files=tuple(str(table.path) for table in tables),
        mean=interval(over_seeds),
        spread=spread(over_seeds),
        failures=sum(len(table.failed.intersection(cases)) for table in tables),
        seed_means=tuple(map(float, defined.mean(axis=1))) if defined.size else (),
        variation=variation(defined),
    )


def _difference(
    names: tuple[str, str],
    first: Values,
    second: Values,
    units: NDArray[np.intp],
    interval: Callable[[Values], Interval],
    seed: int,
) -> Difference:
    apart = first - second
    if np.nansum(apart) < 0:
        names, apart = (names[1], names[0]), -apart
    advantage = interval(apart)
    defined = ~np.isnan(apart)
    kept = np.round(apart[defined], 12)
    sums, sizes = unit_sums(apart[defined], units[defined])
    sd = unit_sd(sums, sizes)
    several = sums.size > 1
    mean = advantage.mean or 0.0
    return Difference(
        better=names[0],
        other=names[1],
        advantage=advantage,
        wins=int((kept > 0).sum()),
        ties=int((kept == 0).sum()),
        losses=int((kept < 0).sum()),
        d_z=mean / sd if sd > 0 else None,
        rank_biserial=rank_biserial(sums / sizes),
        p=permutation_test(sums, seed=seed) if several else None,
        p_holm=None,
        p_wilcoxon=wilcoxon_test(sums / sizes) if several else None,
        p_wilcoxon_holm=None,
        needed=cases_needed(mean, sd, power=POWER, alpha=ALPHA) if several else None,
    )


def _corrected(pairs: Sequence[Difference]) -> tuple[Difference, ...]:
    """The pairs with their p-values corrected for being several, each test for itself."""
    tested = [place for place, pair in enumerate(pairs) if pair.p is not None]
    found = list(pairs)
    plain = holm([pairs[place].p or 0.0 for place in tested])
    signed = holm([pairs[place].p_wilcoxon or 0.0 for place in tested])
    for place, p, p_wilcoxon in zip(tested, plain, signed, strict=True):
        found[place] = replace(found[place], p_holm=p, p_wilcoxon_holm=p_wilcoxon)
    return tuple(found)


def _rank(
    scores: Sequence[SystemScore], merits: NDArray[np.float64], units: NDArray[np.intp], seed: int
) -> tuple[tuple[SystemScore, ...], _Ranking]:
    """The scores with their ranks, over the cases that are defined for every system."""
    from scipy.stats import rankdata

    defined = ~np.isnan(merits).any(axis=1)
    sums, sizes = unit_sums(merits[defined], units[defined])
    if not sizes.size:
        return tuple(scores), _Ranking(0, None, None, ())
    means = sums / sizes[:, None]

    def places(of: NDArray[np.float64]) -> NDArray[np.intp]:
        ranks: NDArray[np.intp] = rankdata(-np.round(of, 12), method="min", axis=-1).astype(np.intp)
        return ranks

    rank = places(sums.sum(axis=0) / sizes.sum())
    over_units = mean_ranks(means)
    counts = np.zeros((len(scores), len(scores) + 1))
    for block in resampled_means(sums, sizes, RESAMPLES, seed):
        for system, column in enumerate(places(block).T):
            counts[system] += np.bincount(column, minlength=len(scores) + 1)
    shares = counts[:, 1:] / RESAMPLES
    several = sizes.size > 1
    ranked = tuple(
        replace(
            score,
            rank=int(rank[place]),
            rank_shares=tuple(map(float, shares[place])) if several else None,
            mean_rank=float(over_units[place]),
        )
        for place, score in enumerate(scores)
    )
    if len(scores) < 3 or not several:
        return ranked, _Ranking(sizes.size, None, None, ())
    limit = critical_difference(len(scores), sizes.size, ALPHA)
    alike = tuple(
        tuple(scores[place].name for place in group) for group in cliques(list(over_units), limit)
    )
    return ranked, _Ranking(sizes.size, friedman_test(means), limit, alike)
