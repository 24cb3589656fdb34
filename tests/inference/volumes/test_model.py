from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from data.volumes import save_nifti
from medseg.inference.files import predict_files
from medseg.inference.predictor import load
from medseg.inference.volumes.model import VolumeModel

from .builders import ORGANS, SYSTEM, bundle

SHAPE = (12, 10, 5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> VolumeModel:
    found = load(bundle(tmp_path_factory.mktemp("run") / "m.medseg"), system=SYSTEM)
    assert isinstance(found, VolumeModel)
    return found


def voxels(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(-500, 500, shape).astype(np.int16)


def test_the_mask_of_a_file_lies_on_its_grid(model: VolumeModel, tmp_path: Path) -> None:
    affine = np.array([[-0.7, 0.1, 0, 3.3], [0.1, 0.7, 0, -9.9], [0, 0, 3.1, 1e3], [0, 0, 0, 1]])
    path = save_nifti(tmp_path / "a.nii.gz", voxels(), affine)
    report = predict_files(model, [path], tmp_path / "out")
    assert (report.written, report.failed) == (1, [])
    mask = nibabel.load(tmp_path / "out" / "a.nii.gz")
    assert np.array_equal(mask.affine, nibabel.load(path).affine)
    assert set(np.unique(mask.dataobj).tolist()) == set(ORGANS.values())
    assert np.array_equal(np.asarray(mask.dataobj), model.predict(path))
