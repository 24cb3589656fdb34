from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg.data.case import Case, Label, LabelMap, Problem
from medseg.data.sites import Site, find_sites, site_problems
from medseg.data.source import File
from medseg.data.survey import CaseFacts

LABELS = LabelMap((Label("background", 0), Label("lesion", 1)))


def sites(
    *groups: tuple[str, list[float], int], attribute: str = "site"
) -> tuple[tuple[Site, ...], list[Problem]]:
    """Of groups with a name, the grey mean of each image and pixels of the lesion in each."""
    cases, facts = [], []
    for name, means, pixels in groups:
        for mean in means:
            case = f"{len(cases):03}"
            cases.append(Case(case, File(Path(case)), attributes={attribute: name}))
            facts.append(CaseFacts(case, "", "", "", 10, 10, (100 - pixels, pixels), mean, 20.0))
    found = find_sites(cases, facts, LABELS)
    return found, list(site_problems(found))


def around(mean: float, count: int = 8) -> list[float]:
    return [mean + index % 4 for index in range(count)]


def test_a_dataset_of_one_site_has_no_fingerprints() -> None:
    assert sites(("Oslo", around(90), 5)) == ((), [])


@pytest.mark.parametrize("attribute", ["site", "device"])
def test_alike_sites_have_a_fingerprint_and_no_problem(attribute: str) -> None:
    (first, second), problems = sites(
        ("Oslo", around(90), 5), ("Bern", around(90.5), 5), attribute=attribute
    )
    assert problems == []
    assert (first.name, first.cases, first.attribute) == ("Bern", 8, attribute)
    assert second.mean == pytest.approx(np.mean(around(90)))
    assert second.deviation == pytest.approx(np.std(around(90), ddof=1))
    assert second.shows == {"lesion": 1.0}


def test_the_effect_is_cohens_d() -> None:
    dark, bright = np.array(around(80)), np.array(around(100, 12))
    (first, second), problems = sites(("a", dark.tolist(), 5), ("b", bright.tolist(), 5))
    pooled = np.sqrt((7 * dark.var(ddof=1) + 11 * bright.var(ddof=1)) / 18)
    assert first.effect == pytest.approx((dark.mean() - bright.mean()) / pooled, abs=0.01)
    assert second.effect == pytest.approx(-first.effect)
    assert [(p.kind, p.where) for p in problems] == [
        ("site-intensity", "site a"),
        ("site-intensity", "site b"),
    ]
    assert "darker" in problems[0].found


def test_sites_of_few_images_are_not_judged() -> None:
    (first, _), problems = sites(("a", around(10, 4), 0), ("b", around(200), 5))
    assert (first.effect, problems) == (None, [])


def test_a_site_that_never_shows_a_class_is_a_problem() -> None:
    _, (problem,) = sites(("a", around(90), 0), ("b", around(90), 5))
    assert (problem.kind, problem.where) == ("site-label", "site a")
    assert "none of its 8 cases shows 'lesion'; elsewhere 100 % do" in problem.found
