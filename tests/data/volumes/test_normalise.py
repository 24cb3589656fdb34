from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from medseg.data.volumes.normalise import Intensity

CT = {"kind": "ct", "low": -100.0, "high": 300.0, "mean": 50.0, "std": 20.0}


@settings(deadline=None)
@given(st.integers(0, 9), st.floats(0.1, 100), st.floats(-1000, 1000))
def test_zscore_gives_mean_0_and_deviation_1_on_any_scale(
    seed: int, factor: float, shift: float
) -> None:
    values = np.random.default_rng(seed).normal(size=(3, 4, 5)) * factor + shift
    found = Intensity(kind="zscore").of(values)(values)
    assert found.dtype == np.float32
    assert found.mean() == pytest.approx(0, abs=1e-2)
    assert found.std() == pytest.approx(1, abs=1e-3)


def test_zscore_in_the_foreground_leaves_zeros_out_of_its_statistics() -> None:
    values = np.zeros((4, 4, 4), np.int16)
    values[1:3] = np.arange(32).reshape(2, 4, 4) + 100
    found = Intensity(kind="zscore", foreground=True).of(values)(values)
    assert found[1:3].mean() == pytest.approx(0, abs=1e-6)
    assert found[1:3].std() == pytest.approx(1, abs=1e-6)
    assert (found[0] < found[1:3].min()).all()


@pytest.mark.parametrize("foreground", [False, True])
@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_volume_is_normalised_to_numbers(value: int, foreground: bool) -> None:
    values = np.full((2, 3, 4), value, np.int16)
    found = Intensity(kind="zscore", foreground=foreground).of(values)(values)
    assert np.array_equal(found, np.zeros_like(found))


def test_ct_cuts_off_and_normalises_by_the_numbers_given() -> None:
    values = np.array([[[-1000, -100, 50, 90, 300, 3000]]], np.int16)
    found = Intensity.model_validate(CT).of(values)(values)
    assert found.ravel().tolist() == [-7.5, -7.5, 0, 2, 12.5, 12.5]


@pytest.mark.parametrize("kind", [{"kind": "zscore"}, CT])
def test_a_part_is_normalised_as_the_whole(kind: dict[str, object]) -> None:
    values = np.random.default_rng(0).integers(-500, 500, (6, 5, 4)).astype(np.int16)
    normalise = Intensity.model_validate(kind).of(values)
    assert np.array_equal(normalise(values)[2:4], normalise(values[2:4]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "zscore", "mean": 1.0},
        {"kind": "ct", "low": 0.0, "high": 1.0, "mean": 0.5},
        {**CT, "foreground": True},
        {**CT, "high": -100.0},
        {**CT, "std": 0.0},
    ],
)
def test_numbers_that_do_not_fit_the_kind_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Intensity.model_validate(wrong)
