"""Tests and effect sizes of systems scored on the same cases.

Where a case belongs to a *unit* (its patient), the units are what is exchanged and counted: cases
of one patient are no independent witnesses.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.metrics.statistics import DRAWS_AT_ONCE, Values

EXACT_UNITS = 16
DRAWS = 10_000
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Variation:
    """How values differ over seeds and over cases, from a two-way table without repetitions.

    Attributes:
        seeds: how many trainings.
        cases: how many cases.
        seed_sd: standard deviation, over seeds, of the mean over cases: how much the headline
            number moves from one training to the next.
        case_sd: standard deviation, over cases, of the mean over seeds.
        seed_component: the part of the variance of one value that its seed explains.
        case_component: the part that its case explains.
        rest: the part that neither explains: which cases a training does well on.
    """

    seeds: int
    cases: int
    seed_sd: float
    case_sd: float
    seed_component: float
    case_component: float
    rest: float


def permutation_test(
    sums: Values, *, exact_units: int = EXACT_UNITS, draws: int = DRAWS, seed: int = 0
) -> float:
    """Two-sided p-value of a mean difference of 0, by flipping the signs of differences.

    If two systems are equally good, it is chance which of them is ahead on a unit. All 2^U sign
    patterns are counted up to ``exact_units`` units; beyond, ``draws`` random ones, and the
    observed one with them, so that p is never 0.

    Args:
        sums: (U,) the sum of the differences of each unit; without units, the differences.
        exact_units: as above.
        draws: as above.
        seed: the same differences and seed give the same p.

    Source:
        R. A. Fisher, "The Design of Experiments" (1935); the +1: B. Phipson, G. K. Smyth,
        "Permutation P-values Should Never Be Zero", Stat. Appl. Genet. Mol. Biol. 9 (2010).
    """
    units = sums.size
    if units == 0:
        return 1.0
    total = sums.sum()
    least = abs(total) - _ROUNDING * np.abs(sums).sum()
    if units <= exact_units:
        patterns = np.arange(1 << units)[:, None] >> np.arange(units) & 1
        return float((np.abs(total - 2 * patterns @ sums) >= least).mean())
    rng = np.random.default_rng(seed)
    most = max(1, DRAWS_AT_ONCE // units)
    extreme = 0
    for start in range(0, draws, most):
        patterns = rng.integers(0, 2, (min(most, draws - start), units), dtype=np.int8)
        extreme += int((np.abs(total - 2 * (patterns @ sums)) >= least).sum())
    return (extreme + 1) / (draws + 1)


def wilcoxon_test(differences: Values) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test; 1 where no difference is left.

    Args:
        differences: (U,) one per unit; zeros are left out, as by Wilcoxon.

    Source:
        F. Wilcoxon, "Individual Comparisons by Ranking Methods", Biometrics Bull. 1 (1945), as in
        ``scipy.stats.wilcoxon``: exact for few differences, else by its normal approximation.
    """
    from scipy.stats import wilcoxon

    # What differs by rounding only must tie.
    rounded = np.round(differences, 12)
    if not rounded.any():
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(wilcoxon(rounded[rounded != 0]).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for being several, so that any false claim among them stays rare.

    Source:
        S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scand. J. Stat. 6
        (1979).
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def rank_biserial(differences: Values) -> float:
    """Matched-pairs rank-biserial correlation in -1 to 1: 1 where every difference is positive.

    The share of the signed ranks that speaks for a positive difference minus the share against;
    0 where there is no difference.

    Source:
        D. S. Kerby, "The Simple Difference Formula", Compr. Psychol. 3 (2014).
    """
    from scipy.stats import rankdata

    rounded = np.round(differences, 12)
    rounded = rounded[rounded != 0]
    if not rounded.size:
        return 0.0
    ranks = rankdata(np.abs(rounded))
    return float((ranks * np.sign(rounded)).sum() / ranks.sum())


def unit_sd(sums: Values, sizes: Values) -> float:
    """Standard deviation of differences between units, in the sense that its square over the
    number of units is the variance of the mean over cases.

    With one case a unit, the sample standard deviation; otherwise from the cluster-robust variance
    of a mean. NaN for fewer than two units.

    Args:
        sums: (U,) the sum of the differences of each unit.
        sizes: (U,) how many cases each has.
    """
    units = sums.size
    if units < 2:
        return math.nan
    rest = (sums - sizes * (sums.sum() / sizes.sum())) / sizes.mean()
    spread = float(np.sqrt((rest**2).sum() / (units - 1)))
    # Equal differences have a spread of rounding only.
    return spread if spread > _ROUNDING * np.abs(sums).max() else 0.0


def cases_needed(
    difference: float, sd: float, *, power: float = 0.8, alpha: float = 0.05
) -> int | None:
    """How many pairs a two-sided paired test needs to see a difference; None for a difference of 0.

    The normal approximation with the correction of Guenther, which is right to about one case.

    Args:
        difference: the true mean of the differences.
        sd: their standard deviation, 0 or more.
        power: the chance of seeing it, between 0 and 1.
        alpha: the level of the test.

    Source:
        W. C. Guenther, "Sample Size Formulas for Normal Theory T Tests", Am. Stat. 35 (1981).
    """
    from scipy.special import ndtri

    if difference == 0:
        return None
    level = float(ndtri(1 - alpha / 2))
    needed = ((level + float(ndtri(power))) * sd / difference) ** 2 + level**2 / 2
    return max(2, math.ceil(needed))


def friedman_test(values: NDArray[np.float64]) -> float:
    """P-value that all systems rank alike; 1 where they tie everywhere.

    Args:
        values: (U, K), K >= 3, a row per unit.

    Source:
        M. Friedman, J. Am. Stat. Assoc. 32 (1937), as in ``scipy.stats.friedmanchisquare``.
    """
    from scipy.stats import friedmanchisquare

    rounded = np.round(values, 12)
    if (np.ptp(rounded, axis=1) == 0).all():
        return 1.0
    return float(friedmanchisquare(*rounded.T).pvalue)


def mean_ranks(values: NDArray[np.float64]) -> Values:
    """The mean over units of each system's rank; 1 is the highest value, equal values share ranks.

    Args:
        values: (U, K), a row per unit.
    """
    from scipy.stats import rankdata

    ranks: Values = rankdata(-np.round(values, 12), axis=1).mean(axis=0)
    return ranks


def critical_difference(systems: int, units: int, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference: mean ranks closer than this cannot be told apart.

    Args:
        systems: 2 or more.
        units: how many rankings were averaged.
        alpha: the level of all comparisons together.

    Source:
        J. Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", J. Mach.
        Learn. Res. 7 (2006), section 3.2.2.
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - alpha, systems, np.inf)) / math.sqrt(2)
    return q * math.sqrt(systems * (systems + 1) / (6 * units))


def cliques(ranks: Sequence[float], limit: float) -> list[tuple[int, ...]]:
    """The largest groups of two or more systems whose mean ranks lie within ``limit``.

    Returns:
        Places in ``ranks``, best first, in each group; none is part of another.
    """
    order = sorted(range(len(ranks)), key=ranks.__getitem__)
    found: list[tuple[int, ...]] = []
    reached = 0
    for start in range(len(order)):
        end = max(
            i for i in range(start, len(order)) if ranks[order[i]] - ranks[order[start]] <= limit
        )
        if end > start and end + 1 > reached:
            found.append(tuple(order[start : end + 1]))
            reached = end + 1
    return found


def variation(values: NDArray[np.float64]) -> Variation | None:
    """Take apart how values differ over seeds and over cases.

    The analysis-of-variance estimators of the two-way random model; a negative component is 0.

    Args:
        values: (S, N) a row per seed, a column per case.

    Returns:
        None for fewer than two seeds or cases.

    Source:
        S. R. Searle, G. Casella, C. E. McCulloch, "Variance Components" (1992), chapter 4.
    """
    seeds, cases = values.shape
    if seeds < 2 or cases < 2:
        return None
    by_seed, by_case = values.mean(axis=1), values.mean(axis=0)
    rest = values - by_seed[:, None] - by_case[None, :] + values.mean()
    noise = float((rest**2).sum() / ((seeds - 1) * (cases - 1)))
    seed_variance, case_variance = float(by_seed.var(ddof=1)), float(by_case.var(ddof=1))
    return Variation(
        seeds=seeds,
        cases=cases,
        seed_sd=math.sqrt(seed_variance),
        case_sd=math.sqrt(case_variance),
        seed_component=max(0.0, seed_variance - noise / cases),
        case_component=max(0.0, case_variance - noise / seeds),
        rest=noise,
    )
