from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.synthetic import benchmark_folder
from medseg.benchmark.figures import pareto
from medseg.benchmark.figures.pareto import pareto_front
from medseg.benchmark.reading import Results, Task

GLAS = Task("glas", "glas")
POINTS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=2),
    st.tuples(st.integers(1, 5), st.integers(0, 5)),
    min_size=1,
    max_size=8,
)


@given(POINTS)
def test_the_front_is_what_no_point_beats(points: dict[str, tuple[float, float]]) -> None:
    def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return one[0] <= other[0] and one[1] >= other[1] and one != other

    front = pareto_front(points)
    for name, point in points.items():
        beaten = any(beats(points[other], point) for other in front)
        assert beaten != (name in front)


def test_the_front_goes_from_cheap_to_good() -> None:
    points = {"big": (9.0, 0.9), "small": (1.0, 0.5), "bad": (5.0, 0.4)}
    assert pareto_front(points) == ["small", "big"]


def test_latency_in_onnx_runtime_stands_beside_that_in_pytorch(results: Results) -> None:
    found = pareto._points(results, GLAS, "latency")
    assert set(found) == {
        *((system, "PyTorch") for system in results.systems),
        *((system, "ONNX Runtime") for system in results.systems if system != "unet"),
    }
    assert found["encoder-plain", "ONNX Runtime"][0] == pytest.approx(2_060_000**0.5 / 80)
    assert "hollow" in pareto.draw(results, "latency").caption
    assert "hollow" not in pareto.draw(results, "parameters").caption


def test_a_system_that_has_no_scores_is_named(tmp_path: Path) -> None:
    failed = [("unet", data, seed) for data in ("dsb2018", "glas") for seed in (0, 1, 2)]
    results = Results.read(benchmark_folder(tmp_path / "out", failed=failed, cases=4))
    assert "not known: unet" in pareto.draw(results, "parameters").caption
    assert results.comparison(GLAS) is not None
