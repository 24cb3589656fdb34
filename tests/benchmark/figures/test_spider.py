from __future__ import annotations

import pytest

from medseg.benchmark.figures import spider
from medseg.benchmark.reading import Results


def test_a_distance_is_shown_as_the_best_over_ones_own(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    webs: list[dict[str, list[float]]] = []
    monkeypatch.setattr(spider, "_web", lambda axes, names, of, look, centre: webs.append(of))
    spider.draw(results)
    task, place = results.tasks[0], results.metrics.index("hd95")
    means = {system: results.score(system, task, "hd95") for system in results.systems}
    known = {
        system: score.mean.mean for system, score in means.items() if score and score.mean.mean
    }
    for system, values in webs[0].items():
        assert values[place] == pytest.approx(min(known.values()) / known[system])
    assert max(values[place] for values in webs[0].values()) == 1
