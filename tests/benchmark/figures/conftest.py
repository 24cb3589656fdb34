from __future__ import annotations

import pytest

from benchmark.synthetic import benchmark_folder
from medseg.benchmark.figures import all_figures
from medseg.benchmark.figures.frame import Drawing
from medseg.benchmark.reading import Results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return Results.read(benchmark_folder(tmp_path_factory.mktemp("bench") / "out", cases=8))


@pytest.fixture(scope="module")
def drawn(results: Results) -> dict[str, Drawing]:
    return {drawing.name: drawing for drawing in all_figures(results)}
