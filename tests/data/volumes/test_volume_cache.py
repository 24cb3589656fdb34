"""Volumes as the network sees them, in files that are mapped into memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.volumes import AXIAL, balls, save_nifti
from medseg.data.case import IGNORE, Label, LabelMap
from medseg.data.layouts import open_dataset
from medseg.data.slices import Whole, gather
from medseg.data.volumes import cache as module
from medseg.data.volumes.cache import VolumeCache, VolumeSettings, open_volume_cache
from medseg.data.volumes.normalise import Intensity
from medseg.data.volumes.preprocess import prepare_image, prepare_mask
from medseg.data.volumes.read import read_image, read_mask
from medseg.errors import DataError, MedsegError

LABELS = LabelMap((Label("background", 0), Label("one", 1), Label("two", 2)))
SETTINGS = VolumeSettings(
    channels=1, labels=LABELS, snap="auto", max_pixels=10**6, plane="axial",
    spacing=(4.0, 2.5, 2.0), intensity=(Intensity(kind="zscore"),),
)  # fmt: skip


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> list[Whole]:
    root = balls(tmp_path_factory.mktemp("balls"), 3, classes=3)
    return gather(open_dataset(root).cases)


def open_(wholes: list[Whole], folder: Path, limit: int = 10**9, **changes: Any) -> VolumeCache:
    settings = replace(SETTINGS, **changes)
    return open_volume_cache(wholes, [each.id for each in wholes], settings, folder, limit=limit)


def test_a_cache_holds_what_reading_and_preparing_gives(
    wholes: list[Whole], tmp_path: Path
) -> None:
    cache = open_(wholes, tmp_path)
    for row, whole in enumerate(wholes):
        stored = read_image(whole.image, 1, "axial")
        expected = prepare_image(stored, SETTINGS.intensity, (5.0, 2.0, 2.0), SETTINGS.spacing)
        np.testing.assert_array_equal(cache.image(row), expected.astype(np.float16))
        classes = read_mask(whole, LABELS, "axial")
        expected_mask = prepare_mask(classes, (5.0, 2.0, 2.0), SETTINGS.spacing)
        np.testing.assert_array_equal(cache.mask(row), expected_mask)
        assert cache.shapes[row] == expected_mask.shape == (15, 11, 16)


def test_places_are_voxels_of_their_class(wholes: list[Whole], tmp_path: Path) -> None:
    cache = open_(wholes, tmp_path)
    places = cache.places(0)
    assert set(places[:, 0]) == {1, 2}
    np.testing.assert_array_equal(cache.mask(0)[tuple(places[:, 1:].T)], places[:, 0])


def test_an_unlabelled_volume_is_not_known(wholes: list[Whole], tmp_path: Path) -> None:
    cache = open_([replace(wholes[0], mask=None)], tmp_path)
    assert (cache.mask(0) == IGNORE).all()
    assert not len(cache.places(0))


def test_an_empty_mask_leaves_no_places(tmp_path: Path) -> None:
    save_nifti(tmp_path / "images" / "a.nii.gz", np.ones((4, 4, 4), np.float32))
    save_nifti(tmp_path / "labels" / "a.nii.gz", np.zeros((4, 4, 4), np.uint8))
    cache = open_(gather(open_dataset(tmp_path).cases), tmp_path / "cache")
    assert cache.places(0).shape == (0, 4)
    assert not cache.mask(0).any()


def test_an_opened_cache_is_found_again(wholes: list[Whole], tmp_path: Path) -> None:
    assert not open_(wholes, tmp_path).reused
    again = open_(wholes, tmp_path)
    assert again.reused
    assert again.ids == ("000", "001", "002")
    assert again.bytes == 3 * 15 * 11 * 16 * 3


@pytest.mark.parametrize(
    "changes",
    [
        {"spacing": (4.0, 2.5, 2.1)},
        {"spacing": None},
        {"plane": "coronal"},
        {"intensity": (Intensity(kind="zscore", foreground=True),)},
        {"snap": "never"},
    ],
)
def test_other_settings_make_another_cache(
    wholes: list[Whole], tmp_path: Path, changes: dict[str, Any]
) -> None:
    assert open_(wholes[:1], tmp_path).folder != open_(wholes[:1], tmp_path, **changes).folder


def test_a_build_that_was_killed_is_gone_on_with(
    wholes: list[Whole], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = open_(wholes, tmp_path / "whole")
    read: list[str] = []

    def reading(image: Any, *arguments: Any, **more: Any) -> Any:
        read.append(str(image))
        if len(read) == 3:
            raise KeyboardInterrupt
        return read_image(image, *arguments, **more)

    monkeypatch.setattr(module, "read_image", reading)
    monkeypatch.setattr(module, "_MAX_WORKERS", 1)
    with pytest.raises(KeyboardInterrupt):
        open_(wholes, tmp_path / "killed")
    assert not list((tmp_path / "killed").glob("*/cases.json"))
    monkeypatch.setattr(module, "read_image", read_image)
    cache = open_(wholes, tmp_path / "killed")
    assert len(read) == 3
    for row in range(3):
        np.testing.assert_array_equal(cache.image(row), whole.image(row))
        np.testing.assert_array_equal(cache.places(row), whole.places(row))


def test_a_damaged_cache_is_built_again(wholes: list[Whole], tmp_path: Path) -> None:
    folder = open_(wholes, tmp_path).folder
    (folder / "00001.places.npy").unlink()
    cache = open_(wholes, tmp_path)
    assert not cache.reused
    assert len(cache.places(1))


def test_a_limit_is_kept(wholes: list[Whole], tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match="--cache-limit"):
        open_(wholes, tmp_path, limit=1000)


def test_least_recently_used_caches_make_room(wholes: list[Whole], tmp_path: Path) -> None:
    first = open_(wholes, tmp_path)
    second = open_(wholes, tmp_path, limit=int(1.5 * first.bytes), spacing=(4.0, 2.5, 2.1))
    assert second.folder.is_dir()
    assert not first.folder.exists()


def test_a_damaged_file_is_an_error_and_leaves_no_cache(tmp_path: Path) -> None:
    root = balls(tmp_path / "data", 1)
    values = np.zeros((16, 14, 12), np.float32)
    values[0] = np.inf
    save_nifti(root / "images" / "000.nii.gz", values, AXIAL)
    with pytest.raises(DataError, match=r"000\.nii\.gz"):
        open_(gather(open_dataset(root).cases), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*/cases.json"))
