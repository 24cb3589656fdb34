from __future__ import annotations

from medseg.benchmark.figures.frame import Drawing


def test_alike_images_are_noted_in_the_matrix(drawn: dict[str, Drawing]) -> None:
    assert "*2" in drawn["zero-shot"].inline
    assert "nearly alike" in drawn["zero-shot"].caption
