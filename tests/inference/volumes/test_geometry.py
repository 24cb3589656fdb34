from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.volumes import dicom_series, save_mha, save_nifti, save_nrrd, save_pages
from medseg.data.case import Label, LabelMap
from medseg.data.io.volume import read_header, read_voxels, volume_files, written_suffix
from medseg.data.slices import open_slices
from medseg.data.volumes.normalise import Intensity
from medseg.data.volumes.preprocess import prepare_image
from medseg.errors import DataError
from medseg.inference.bundle import VolumeInput
from medseg.inference.volumes.geometry import (
    as_shown,
    for_network,
    padding,
    read_for_network,
    write_classes,
)

LABELS = LabelMap(tuple(Label(str(value), value) for value in range(8)))


def settings(**values: object) -> VolumeInput:
    return VolumeInput.model_validate(
        {"spacing_mm": None, "patch": (4, 4, 4), "intensity": [{"kind": "zscore"}], **values}
    )


def smooth(*shape: int) -> np.ndarray:
    """With detail a few voxels wide, as images have."""
    from scipy import ndimage

    values = np.random.default_rng(0).normal(size=shape)
    return ndimage.gaussian_filter(values, (0, 1, 1, 1)).astype(np.float32)


@pytest.mark.parametrize(
    ("spacing", "target"),
    [
        ((1.0, 1.0, 1.0), (1.4, 0.8, 1.3)),
        ((1.0, 1.0, 1.0), (0.3, 1.0, 1.0)),
        ((5.0, 1.0, 1.0), (3.0, 0.8, 0.8)),
        ((1.0, 1.0, 5.0), (1.5, 0.7, 2.0)),
        ((2.0, 2.0, 2.0), (2.0, 2.0, 2.0)),
    ],
)
def test_a_volume_is_prepared_as_for_training(
    spacing: tuple[float, float, float], target: tuple[float, float, float]
) -> None:
    stored = smooth(2, 60, 12, 10)
    rules = (Intensity(kind="zscore"), Intensity(kind="ct", low=-0.2, high=0.3, mean=0.1, std=0.5))
    expected = prepare_image(stored, rules, spacing, target)
    chosen = settings(spacing_mm=target, intensity=rules)
    found = for_network(stored, spacing, chosen, expected.shape[1:])
    assert np.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 4, 9), (2, 1, 4)])
def test_what_is_missing_to_a_window_is_added_on_both_sides(shape: tuple[int, ...]) -> None:
    pads = padding(shape, (4, 4, 4))
    for length, (before, after) in zip(shape, pads, strict=True):
        assert length + before + after == max(length, 4)
        assert 0 <= after - before <= 1


def test_a_volume_without_spacing_is_refused_where_the_model_resamples(tmp_path: Path) -> None:
    source = open_slices(save_pages(tmp_path / "a.tif", np.zeros((3, 4, 5), np.uint16)))
    with pytest.raises(DataError, match="does not say the spacing"):
        read_for_network(source, settings(spacing_mm=(1.0, 1.0, 1.0)), 1, 1000)
    image, shape = read_for_network(source, settings(), 1, 1000)
    assert (image.shape, shape) == ((1, 3, 4, 5), (3, 4, 5))


def test_a_spacing_that_makes_a_volume_too_large_is_refused(tmp_path: Path) -> None:
    metres = np.diag([300.0, 300.0, 900.0, 1.0])
    path = save_nifti(tmp_path / "a.nii.gz", np.zeros((5, 4, 3), np.int16), metres)
    with pytest.raises(DataError, match="says a spacing of 900 x 300 x 300 mm"):
        read_for_network(open_slices(path), settings(spacing_mm=(0.5, 0.5, 0.5)), 1, 1000)


@pytest.mark.parametrize("plane", ["", "axial", "sagittal", "coronal"])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha", "ct"])
def test_classes_of_a_volume_come_back_to_its_voxels(tmp_path: Path, name: str, plane: str) -> None:
    values = np.random.default_rng(0).integers(0, 8, (5, 4, 3)).astype(np.int16)
    affine = np.array([[0, -2.0, 0, 5], [0, 0, 5.0, 7], [2.0, 0, 0, 9], [0, 0, 0, 1]])
    saver = {"a.nii.gz": save_nifti, "a.nrrd": save_nrrd, "a.mha": save_mha}.get(name)
    if saver is None:
        path = dicom_series(
            tmp_path / name, values.T.astype(np.uint16), directions=(0, 1, 0, 0, 0, -1)
        )
    else:
        path = saver(tmp_path / name, values, affine)
    files = volume_files(path)
    # An image of whole numbers that are the classes.
    chosen = settings(
        plane=plane, intensity=[{"kind": "ct", "low": -1, "high": 9, "mean": 0, "std": 1}]
    )
    image, _ = read_for_network(open_slices(path), chosen, 1, 1000)
    out = tmp_path / f"mask{written_suffix(files)}"
    write_classes(out, as_shown(image[0].astype(np.uint8), files, plane), LABELS, files)
    stored, image_header = read_voxels((out,)), read_header(files)
    assert np.array_equal(stored.values, read_voxels(files).values)
    assert image_header.affine is not None
    assert np.allclose(stored.header.affine, image_header.affine, atol=1e-5)


def test_a_volume_in_another_orientation_is_the_same_to_the_network(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-500, 500, (6, 5, 4)).astype(np.int16)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    turned = affine[:, [2, 0, 1, 3]] @ np.diag([1, -1, 1, 1])
    turned[:3, 3] = affine[:3, 0] * 5
    one = save_nifti(tmp_path / "a.nii.gz", values, affine)
    other = save_nifti(tmp_path / "b.nii.gz", values.transpose(2, 0, 1)[:, ::-1], turned)
    images = [
        read_for_network(open_slices(path), settings(plane="axial"), 1, 1000)[0]
        for path in (one, other)
    ]
    assert images[0].shape == (1, 4, 5, 6)
    assert np.array_equal(*images)
