"""What a dataset of volumes looks like in numbers."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from data.volumes import balls, dicom_series, save_nifti, save_pages
from medseg.data.case import Label, LabelMap
from medseg.data.expand import Subject, expand
from medseg.data.layouts import open_dataset
from medseg.data.slices import Whole, gather
from medseg.data.volumes.fingerprint import (
    VolumeFingerprint,
    declared_modalities,
    take_volume_fingerprint,
)
from medseg.errors import DataError

LABELS = LabelMap((Label("background", 0), Label("one", 1), Label("two", 2)))
CORONAL = np.array([[1.0, 0, 0, 0], [0, 0, 4, 0], [0, 1, 0, 0], [0, 0, 0, 1]])


def measure(root: Path, wholes: list[Whole] | None = None) -> VolumeFingerprint:
    found = gather(open_dataset(root).cases) if wholes is None else wholes
    return take_volume_fingerprint(
        found, root=root, counts=(len(found), len(found), None), labels=LABELS, channels=1
    )


def test_shapes_spacings_and_structures_are_measured(tmp_path: Path) -> None:
    root = balls(tmp_path, 3, classes=2)
    found = measure(root)
    assert found.shape == (12, 14, 16)
    assert found.spacing == (5.0, 2.0, 2.0)
    assert found.plane == "axial"
    masks = [np.asarray(nibabel.load(path).dataobj) for path in sorted((root / "labels").iterdir())]
    images = [
        np.asarray(nibabel.load(path).dataobj) for path in sorted((root / "images").iterdir())
    ]
    inside = np.concatenate([image[mask == 1] for image, mask in zip(images, masks, strict=True)])
    (channel,) = found.intensities
    assert channel.mean == pytest.approx(inside.mean(), rel=1e-5)
    assert channel.std == pytest.approx(inside.std(), rel=1e-5)
    assert (channel.low, channel.high) == pytest.approx(
        np.percentile(inside.astype(np.float64), (0.5, 99.5)), rel=1e-5
    )
    one, two = found.classes
    assert one.voxel_share == pytest.approx(np.mean(masks))
    assert (one.volume_share, two.volume_share) == (1.0, 0.0)
    json.dumps(found.to_json())


def test_volumes_are_measured_in_the_commonest_plane(tmp_path: Path) -> None:
    root = balls(tmp_path, 3)
    values = np.zeros((16, 12, 14), np.float32)
    save_nifti(root / "images" / "000.nii.gz", values, CORONAL)
    save_nifti(root / "labels" / "000.nii.gz", values.astype(np.uint8), CORONAL)
    found = measure(root)
    assert found.plane == "axial"
    assert found.shapes[0] == (12, 14, 16)
    assert found.spacings is not None
    assert found.spacings[0] == (1.0, 4.0, 1.0)


def test_the_share_that_is_empty_is_measured(tmp_path: Path) -> None:
    values = np.zeros((8, 8, 8), np.float32)
    values[:2] = 5
    save_nifti(tmp_path / "images" / "a.nii.gz", values)
    save_nifti(tmp_path / "labels" / "a.nii.gz", np.zeros((8, 8, 8), np.uint8))
    assert measure(tmp_path).empty_share == 0.75


def test_volumes_without_structures_can_be_measured(tmp_path: Path) -> None:
    save_nifti(tmp_path / "images" / "a.nii.gz", np.ones((4, 4, 4), np.float32))
    save_nifti(tmp_path / "labels" / "a.nii.gz", np.zeros((4, 4, 4), np.uint8))
    assert measure(tmp_path).classes[0].voxel_share == 0


def test_dicom_files_say_their_modality(tmp_path: Path) -> None:
    values = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)
    folder = dicom_series(tmp_path / "a", values, Modality="CT")
    mask = save_pages(tmp_path / "m.tif", (values > 9).astype(np.uint8))
    cases, _ = expand(Subject("a", [folder]))
    masks, _ = expand(Subject("m", [mask]))
    (image,), (truth,) = gather(cases), gather(masks)
    labelled = tuple(
        type(case)(case.id, case.image, other.image)
        for case, other in zip(image.cases, truth.cases, strict=True)
    )
    assert measure(tmp_path, gather(labelled)).modalities == ("CT",)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"modality": {"0": "CT"}}, ("CT",)),
        ({"channel_names": {"0": "T1"}}, ("T1",)),
        ({"modality": {"0": "T1", "1": "T2"}}, ()),
        ({"modality": "CT"}, ()),
        ([], ()),
    ],
)
def test_a_dataset_json_names_modalities(
    tmp_path: Path, content: object, names: tuple[str, ...]
) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert declared_modalities(tmp_path, 1) == names


def test_one_volume_without_spacing_among_others_is_named(tmp_path: Path) -> None:
    root = balls(tmp_path, 3)
    values = np.asarray(nibabel.load(root / "images" / "001.nii.gz").dataobj)
    for kind, stored in (("images", values.astype(np.uint16)), ("labels", values > 130)):
        (root / kind / "001.nii.gz").unlink()
        save_pages(root / kind / "001.tif", stored.astype(np.uint16).transpose(2, 1, 0))
    with pytest.raises(DataError, match=r"001\.tif.*as 2 of 3 volumes do"):
        measure(root)
