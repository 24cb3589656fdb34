from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def many_tasks() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("many_tasks", BENCHMARKS / "many_tasks.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_every_task_counts_the_same(many_tasks: ModuleType) -> None:
    small = (np.array([[0.0], [0.0]]), [None, None])
    large = (np.ones((50, 1)), [None] * 50)
    assert np.all(many_tasks.resampled([small, large]) == 0.5)


def test_patients_are_drawn_whole(many_tasks: ModuleType) -> None:
    # Each patient has a 0 and a 1, so whichever are drawn, the mean is the same.
    values = np.array([[0.0], [1.0], [0.0], [1.0]])
    assert np.all(many_tasks.resampled([(values, ["a", "a", "b", "b"])]) == 0.5)
    assert np.ptp(many_tasks.resampled([(values, ["a", "b", "c", "d"])])) > 0


def test_flipped_signs_give_the_exact_p_value(many_tasks: ModuleType) -> None:
    # Of the 2^4 signs only + + + + and - - - - are as far from 0.
    p = many_tasks.flipped_p(np.array([0.1, 0.2, 0.3, 0.4]))
    assert p == pytest.approx(2 / 16, abs=0.005)
    assert many_tasks.flipped_p(np.array([0.1, -0.1])) == 1


def test_holms_correction_keeps_the_order_and_never_exceeds_one(many_tasks: ModuleType) -> None:
    assert many_tasks.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert many_tasks.holm([0.9, 0.8]) == [1, 1]


def test_a_resized_mask_keeps_what_the_size_can_show(many_tasks: ModuleType) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 1
    assert many_tasks.dice_kept(mask, 32, 2) == 1
    lines = np.zeros((64, 64), np.uint8)
    lines[::4] = 1
    assert many_tasks.dice_kept(lines, 16, 2) < 0.6
    assert np.isnan(many_tasks.dice_kept(np.zeros((8, 8), np.uint8), 8, 2))
