from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import medseg
from data.volumes import balls
from inference.volumes.builders import PATCH, SYSTEM, bundle, manifest_and_weights, model
from medseg.data.integrity import check_dataset
from medseg.data.layouts import open_dataset
from medseg.data.slices import gather
from medseg.data.volumes.cache import VolumeSettings, open_volume_cache
from medseg.data.volumes.read import Grid
from medseg.engine.golden import MAX_VALUES, choose_golden_volumes, clearest, piece_shape
from medseg.errors import ModelError
from medseg.inference.bundle import Golden, read_golden, stored_golden, write_bundle
from medseg.inference.volumes.predictor import VolumePredictor

LENGTHS = st.tuples(*[st.integers(1, 500)] * 3)


def golden(seed: int = 0) -> Golden:
    return Golden(np.full((2, 2, 1), seed, np.uint8), np.zeros((2, 2), np.uint8))


def numbered(*margins: float) -> Iterator[tuple[float, Golden]]:
    for seed, margin in enumerate(margins):
        yield margin, golden(seed)


def chosen(found: Iterator[tuple[float, Golden]], count: int) -> list[int]:
    return [int(case.image[0, 0, 0]) for case in clearest(found, count)]


def test_a_case_that_rounding_decides_makes_place_for_the_next() -> None:
    assert chosen(numbered(0.1, 1e-6, 0.2, 0.3), 2) == [0, 2]


def test_where_all_are_undecided_the_clearest_stay() -> None:
    assert chosen(numbered(1e-6, 3e-6, 2e-6), 2) == [1, 2]


def test_no_case_is_answered_that_nobody_needs() -> None:
    found = numbered(0.1, 0.2, 0.3)
    assert chosen(found, 1) == [0]
    assert next(found)[0] == 0.2
    untouched = numbered(0.1)
    assert chosen(untouched, 0) == []
    assert next(untouched)[0] == 0.1


@given(LENGTHS, LENGTHS, st.integers(1, 4))
def test_a_piece_lies_in_its_volume_and_stays_small(
    shape: tuple[int, int, int], spacing: tuple[int, int, int], channels: int
) -> None:
    settings = manifest_and_weights()[0].volume
    assert settings is not None
    mm = (spacing[0] / 50, spacing[1] / 50, spacing[2] / 50)
    found = piece_shape(Grid(shape, mm, "axial"), settings, channels)
    assert all(1 <= side <= length for side, length in zip(found, shape, strict=True))
    assert channels * prod(found) <= MAX_VALUES


def test_a_piece_has_the_size_of_the_window_on_the_grid_of_its_volume() -> None:
    settings = manifest_and_weights()[0].volume
    assert settings is not None
    assert settings.spacing_mm == (5, 2, 2)
    grid = Grid((100, 100, 100), (5.0, 1.0, 4.0), "axial")
    assert piece_shape(grid, settings, 1) == (PATCH[0], 2 * PATCH[1], PATCH[2] // 2)


def test_a_piece_holds_the_structure_and_the_answer_of_the_model(tmp_path: Path) -> None:
    data = open_dataset(balls(tmp_path / "balls", 2))
    survey = check_dataset(data)
    assert survey.labels is not None
    own = model({"background": 0, "organ": 1})
    volumes = gather(survey.usable)
    settings = VolumeSettings(
        channels=1, labels=survey.labels, snap="auto", max_pixels=10**6, plane="axial",
        spacing=own.settings.spacing_mm, intensity=own.settings.intensity,
    )  # fmt: skip
    cache = open_volume_cache(volumes, ["a", "b"], settings, tmp_path / "cache", limit=10**9)
    assert choose_golden_volumes(own, volumes, cache, 0) == ()
    found = choose_golden_volumes(own, volumes, cache, 2)
    assert [case.image.shape for case in found] == [(1, *PATCH)] * 2
    for case in found:
        assert case.spacing == pytest.approx((5, 2, 2))
        # Noise of 100 +- 10, and balls of 160.
        assert case.image.max() > 150
        answer = own.predict_array(case.image, case.spacing)
        assert np.array_equal(answer.classes, case.classes)


def written(path: Path, case: Golden) -> Path:
    manifest, weights = manifest_and_weights()
    manifest = manifest.model_copy(update={"golden": stored_golden([case])})
    write_bundle(path, manifest, weights, golden=[case])
    return path


def test_a_bundle_keeps_pieces_of_volumes_and_their_spacing(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(1, 3, 4, 5)).astype(np.float32)
    case = Golden(image, np.ones((3, 4, 5), np.uint8), (5.0, 2.0, 1.5))
    (found,) = read_golden(written(tmp_path / "m.medseg", case))
    assert np.array_equal(found.image, image)
    assert found.image.dtype == np.float32
    assert np.array_equal(found.classes, case.classes)
    assert found.spacing == case.spacing


@pytest.mark.parametrize(
    ("image", "mask"),
    [((1, 3, 4, 5), (3, 4, 6)), ((2, 3, 4, 5), (3, 4, 5)), ((3, 4, 5), (3, 4, 5))],
    ids=["another size", "another number of channels", "no channels"],
)
def test_a_piece_that_does_not_fit_is_refused(
    image: tuple[int, ...], mask: tuple[int, ...], tmp_path: Path
) -> None:
    case = Golden(np.zeros(image, np.float32), np.zeros(mask, np.uint8))
    with pytest.raises(ModelError, match="golden case 0"):
        read_golden(written(tmp_path / "m.medseg", case))


def test_a_model_of_volumes_has_no_pictures(tmp_path: Path) -> None:
    case = Golden(np.zeros((1, 3, 4, 5), np.uint8), np.zeros((3, 4, 5), np.uint8))
    with pytest.raises(ModelError, match="type uint8"):
        read_golden(written(tmp_path / "m.medseg", case))


def test_arrays_are_predicted_like_files(tmp_path: Path) -> None:
    own = medseg.load(bundle(tmp_path / "m.medseg"), device="cpu", system=SYSTEM)
    assert isinstance(own, VolumePredictor)
    image = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    classes = own.predict_array(image, (5.0, 2.0, 2.0)).classes
    values = np.array([label.value for label in own.labels.labels])
    assert np.array_equal(own.predict(image, spacing=(5.0, 2.0, 2.0)), values[classes])
