from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from data.builders import disk, noise, save
from data.volumes import (
    AXIAL,
    dicom_series,
    dicom_slice,
    save_mha,
    save_nifti,
    save_nrrd,
    save_pages,
)
from medseg.data.expand import Subject, expand
from medseg.data.io import read_mask
from medseg.data.io.volume import read_header, read_labels, volume_files
from medseg.data.slices import open_slices
from medseg.errors import DataError
from medseg.inference import files as files_module
from medseg.inference.files import PredictOptions, predict_files
from medseg.inference.inputs import find_inputs
from medseg.inference.network import Model
from medseg.inference.network import load_network as load

from .builders import COLOURS, ORGANS, bundle

SHAPE = (12, 10, 5)


def voxels(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-500, 500, shape).astype(np.int16)


def tree(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(bundle(tmp_path_factory.mktemp("run") / "model.medseg", ORGANS))


SAVERS: dict[str, tuple[Callable[..., Path], str]] = {
    "a.nii.gz": (save_nifti, "a.nii.gz"),
    "a.nii": (save_nifti, "a.nii.gz"),
    "a.nrrd": (save_nrrd, "a.nrrd"),
    "a.mha": (save_mha, "a.mha"),
    "a.mhd": (save_mha, "a.mha"),
}


@pytest.mark.parametrize("name", SAVERS)
def test_the_mask_of_a_volume_is_a_volume_of_the_masks_of_its_slices(
    model: Model, tmp_path: Path, name: str
) -> None:
    saver, written = SAVERS[name]
    oblique = AXIAL.copy()
    oblique[:2, :2] = [[1.2, -1.6], [1.6, 1.2]]
    path = saver(tmp_path / name, voxels(), oblique)
    report = predict_files(model, [path], tmp_path / "out")
    assert (report.written, report.failed) == (1, [])
    assert tree(tmp_path / "out") == [written, "predictions.json"]
    image = read_header(volume_files(path))
    files = (tmp_path / "out" / written,)
    mask = read_header(files)
    assert mask.shape == SHAPE
    assert mask.affine is not None
    assert image.affine is not None
    assert np.allclose(mask.affine, image.affine, atol=1e-6)
    for case, values in zip(
        expand(Subject("a", [path]))[0], read_labels(files).values, strict=True
    ):
        assert np.array_equal(values, model.predict(case.image.read_image()))


def test_a_nifti_mask_has_exactly_the_affine_of_its_image(model: Model, tmp_path: Path) -> None:
    affine = np.array([[-0.7, 0.1, 0, 3.3], [0.1, 0.7, 0, -9.9], [0, 0, 3.1, 1e3], [0, 0, 0, 1]])
    path = save_nifti(tmp_path / "a.nii.gz", voxels(), affine)
    predict_files(model, [path], tmp_path / "out")
    image, mask = nibabel.load(path), nibabel.load(tmp_path / "out" / "a.nii.gz")
    assert np.array_equal(mask.affine, image.affine)
    assert mask.get_data_dtype() == np.uint16
    assert set(np.unique(mask.dataobj).tolist()) <= set(ORGANS.values())


def test_pages_give_pages(model: Model, tmp_path: Path) -> None:
    save_pages(tmp_path / "in" / "a.tif", noise(size=(30, 9), channels=1).reshape(3, 10, 9))
    predict_files(model, [tmp_path / "in"], tmp_path / "out")
    assert read_labels((tmp_path / "out" / "a.tif",)).values.shape == (3, 10, 9)


def test_series_give_niftis_and_single_images_pngs(model: Model, tmp_path: Path) -> None:
    slices = np.stack([noise(seed, channels=1) for seed in range(3)])
    dicom_series(tmp_path / "in" / "ct", slices, series="1")
    dicom_slice(tmp_path / "in" / "cxr" / "film.dcm", noise(channels=1), series="2")
    predict_files(model, [tmp_path / "in"], tmp_path / "out")
    assert tree(tmp_path / "out") == ["ct.nii.gz", "cxr.png", "predictions.json"]
    ct = read_header(volume_files(tmp_path / "in" / "ct"))
    assert np.allclose(nibabel.load(tmp_path / "out" / "ct.nii.gz").affine, ct.affine, atol=1e-5)
    assert read_mask(tmp_path / "out" / "cxr.png").values.shape == (16, 20)


def test_the_slices_of_a_dataset_give_one_mask_a_volume(model: Model, tmp_path: Path) -> None:
    for number in range(2):
        save_nifti(tmp_path / "data" / "images" / f"p{number}.nii.gz", voxels(number))
        labels = np.zeros(SHAPE, np.uint8)
        labels[3:6, 3:6] = 1
        save_nifti(tmp_path / "data" / "masks" / f"p{number}.nii.gz", labels)
    save_nifti(tmp_path / "data" / "masks" / "p1.nii.gz", labels[..., :3])
    report = predict_files(model, [tmp_path / "data"], tmp_path / "out")
    assert report.written == 2
    assert tree(tmp_path / "out") == ["p0.nii.gz", "p1.nii.gz", "predictions.json"]


def test_contours_and_probabilities_are_those_of_the_slices(model: Model, tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", voxels(shape=(12, 10, 2)))
    options = PredictOptions(overlay=True, probabilities=True)
    assert predict_files(model, [path], tmp_path / "out", options=options).written == 1
    assert tree(tmp_path / "out") == [
        "a.nii.gz",
        "overlay/a/slice_000.png",
        "overlay/a/slice_001.png",
        "predictions.json",
        "probabilities/a/slice_000.npz",
        "probabilities/a/slice_001.npz",
    ]
    assert predict_files(model, [path], tmp_path / "out", options=options).skipped == 1
    (tmp_path / "out" / "overlay" / "a" / "slice_001.png").unlink()
    assert predict_files(model, [path], tmp_path / "out", options=options).written == 1


def test_volumes_that_are_there_are_not_made_again(model: Model, tmp_path: Path) -> None:
    for number in range(2):
        save_nifti(tmp_path / "in" / f"{number}.nii.gz", voxels(number))
    predict_files(model, [tmp_path / "in"], tmp_path / "out")
    (tmp_path / "out" / "0.nii.gz").write_bytes(b"touched by hand")
    (tmp_path / "out" / "1.nii.gz").unlink()
    report = predict_files(model, [tmp_path / "in"], tmp_path / "out")
    assert (report.written, report.skipped) == (1, 1)
    assert (tmp_path / "out" / "0.nii.gz").read_bytes() == b"touched by hand"


def test_a_mask_never_takes_the_place_of_a_volume(model: Model, tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", voxels())
    with pytest.raises(DataError, match="its mask would replace it"):
        predict_files(model, [path], tmp_path)


def test_a_damaged_volume_is_reported_once_and_leaves_no_mask(model: Model, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        save_nifti(tmp_path / "in" / f"{name}.nii.gz", voxels())
    whole = (tmp_path / "in" / "b.nii.gz").read_bytes()
    (tmp_path / "in" / "b.nii.gz").write_bytes(whole[:-300])
    seen: list[tuple[int, int]] = []
    report = predict_files(
        model, [tmp_path / "in"], tmp_path / "out", progress=lambda *pair: seen.append(pair)
    )
    assert report.written == 2
    ((source, reason),) = report.failed
    assert str(source) == str(tmp_path / "in" / "b.nii.gz")
    assert "damaged" in reason
    assert tree(tmp_path / "out") == ["a.nii.gz", "c.nii.gz", "predictions.json"]
    assert seen[-1] == (15, 15)
    assert seen == sorted(seen)


def test_of_a_series_the_damaged_file_is_named(model: Model, tmp_path: Path) -> None:
    slices = np.stack([noise(seed, channels=1) for seed in range(3)])
    folder = dicom_series(tmp_path / "ct", slices)
    (folder / "001.dcm").write_bytes((folder / "001.dcm").read_bytes()[:-50])
    ((_, reason),) = predict_files(model, [folder], tmp_path / "out").failed
    assert reason.startswith(f"{folder / '001.dcm'}: its pixels cannot be decoded")


def test_a_4d_volume_is_reported_and_the_others_done(tmp_path: Path) -> None:
    model = load(bundle(tmp_path / "model.medseg", channels=1))
    save_nifti(tmp_path / "in" / "a.nii.gz", voxels())
    save_nifti(tmp_path / "in" / "b.nii.gz", voxels(shape=(*SHAPE, 2)))
    report = predict_files(model, [tmp_path / "in"], tmp_path / "out")
    assert report.written == 1
    assert "is 4D (12 x 10 x 5 x 2)" in report.failed[0][1]


def test_masks_of_colours_cannot_be_volumes(tmp_path: Path) -> None:
    model = load(bundle(tmp_path / "m.medseg", COLOURS, rgb=True))
    path = save_nifti(tmp_path / "a.nii.gz", voxels())
    with pytest.raises(DataError, match="masks hold colours, which no volume does"):
        predict_files(model, [path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_volume_at_a_time_is_in_memory(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        save_nifti(tmp_path / "in" / f"{number}.nii.gz", voxels(number))
    alive: set[int] = set()
    most = 0

    class Counted(files_module._Volume):
        def __init__(self, *args: Any) -> None:
            nonlocal most
            super().__init__(*args)
            alive.add(id(self))
            most = max(most, len(alive))

        def __del__(self) -> None:
            alive.discard(id(self))

    monkeypatch.setattr(files_module, "_Volume", Counted)
    predict_files(model, [tmp_path / "in"], tmp_path / "out")
    assert 1 <= most <= 4


def channels_in(folder: Path, names: tuple[str, ...]) -> Path:
    for index, name in enumerate(names):
        save_nifti(folder / name, voxels(index))
    return folder


def test_files_of_numbered_channels_are_one_image(tmp_path: Path) -> None:
    folder = channels_in(
        tmp_path, ("x_0000.nii.gz", "x_0001.nii.gz", "y_0000.nii.gz", "y_0001.nii.gz")
    )
    found = find_inputs([folder], channels=2)
    assert list(found) == [f"{name}/slice_{k:03}" for name in "xy" for k in range(5)]
    assert found["y/slice_000"].read_image().shape == (10, 12, 2)
    assert list(find_inputs([folder / "x*"], channels=2)) == [f"x/slice_{k:03}" for k in range(5)]


def test_a_fourth_axis_holds_the_channels_of_a_model_that_takes_several(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", voxels(shape=(*SHAPE, 2)))
    for inputs in (path, tmp_path, tmp_path / "*.nii.gz"):
        found = find_inputs([inputs], channels=2)
        assert found["a/slice_000"].read_image().shape == (10, 12, 2)


def test_a_missing_channel_is_named(tmp_path: Path) -> None:
    folder = channels_in(tmp_path, ("x_0000.nii.gz", "x_0001.nii.gz", "y_0001.nii.gz"))
    with pytest.raises(DataError, match=r"y_0000\.nii\.gz: is missing"):
        find_inputs([folder], channels=2)


def test_the_number_of_the_only_channel_is_no_part_of_the_name(tmp_path: Path) -> None:
    folder = channels_in(tmp_path, ("x_0000.nii.gz", "y_0000.nii.gz"))
    assert {name.split("/")[0] for name in find_inputs([folder])} == {"x", "y"}


def test_numbered_frames_are_no_channels(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"frame_{number:04}.png", noise(number))
    names = ["frame_0000", "frame_0001", "frame_0002"]
    assert list(find_inputs([tmp_path], channels=3)) == names
    assert list(find_inputs([tmp_path], channels=1)) == names


def test_pictures_and_volumes_may_lie_together(model: Model, tmp_path: Path) -> None:
    save_nifti(tmp_path / "in" / "a.nii.gz", voxels())
    save(tmp_path / "in" / "b.png", disk())
    predict_files(model, [tmp_path / "in"], tmp_path / "out")
    assert tree(tmp_path / "out") == ["a.nii.gz", "b.png", "predictions.json"]


def test_of_a_volume_all_slices_are_predicted_or_none(model: Model, tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", voxels())
    some = dict(list(find_inputs([path]).items())[:3])
    with pytest.raises(DataError, match="only 3 of its 5 slices"):
        files_module.predict_images(model, some, tmp_path / "out")


def test_a_whole_volume_may_be_given_as_one_source(model: Model, tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", voxels())
    report = files_module.predict_images(model, {"x": open_slices(path)}, tmp_path / "out")
    assert report.written == 1
    assert tree(tmp_path / "out") == ["predictions.json", "x.nii.gz"]
