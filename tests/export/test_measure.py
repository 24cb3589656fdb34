from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medseg.errors import ModelError
from medseg.export.measure import Cost, measure, time_predictions
from medseg.inference.network import Model
from medseg.inference.predictor import Prediction

from .conftest import noise


def test_a_file_is_measured_in_a_process_of_its_own(graph: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(graph)
    cost = measure(tmp_path / "m.onnx", noise((30, 40)), threads=1)
    assert isinstance(cost, Cost)
    assert 0 < cost.fastest <= cost.milliseconds
    # PyTorch alone takes more, and this process has it in memory.
    assert cost.peak_mb is None or 30 < cost.peak_mb < 200


def test_a_process_that_fails_is_an_error_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"m\.onnx: a process that predicts an image .*cannot use"):
        measure(tmp_path / "m.onnx", noise((8, 8)), threads=1)


def test_predictors_take_turns(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[str] = []

    class Noting:
        def __init__(self, name: str) -> None:
            self.name = name

        def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
            return image

        def infer(self, *_: object) -> object:
            turns.append(self.name)
            return iter([Prediction(np.zeros((8, 8), np.uint8))])

    times = time_predictions([Noting("a"), Noting("b")], noise((8, 8)), runs=2)  # type: ignore[list-item]
    assert turns == ["a", "b"] * 5
    assert [len(each) for each in times] == [2, 2]
