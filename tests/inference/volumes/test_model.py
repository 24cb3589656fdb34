from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from commands import medseg
from data.builders import disk, save
from data.volumes import dicom_series, save_nifti, save_pages
from medseg.data.io.volume import read_labels
from medseg.errors import DataError, MedsegError, ModelError
from medseg.inference.files import PredictOptions, predict_files
from medseg.inference.network import load_network
from medseg.inference.predictor import load
from medseg.inference.volumes import model as model_module
from medseg.inference.volumes.geometry import for_network
from medseg.inference.volumes.model import VolumeModel, VolumeOptions
from medseg.serve.served import load_models

from . import builders
from .builders import BINARY, ORGANS, SYSTEM, bundle

SHAPE = (12, 10, 5)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("run") / "m.medseg", mirror=(0, 2))


@pytest.fixture(scope="module")
def model(path: Path) -> VolumeModel:
    found = load(path, system=SYSTEM)
    assert isinstance(found, VolumeModel)
    return found


def voxels(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-500, 500, shape).astype(np.int16)


def tree(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_the_mask_of_a_file_lies_on_its_grid(model: VolumeModel, tmp_path: Path) -> None:
    affine = np.array([[-0.7, 0.1, 0, 3.3], [0.1, 0.7, 0, -9.9], [0, 0, 3.1, 1e3], [0, 0, 0, 1]])
    path = save_nifti(tmp_path / "a.nii.gz", voxels(), affine)
    report = predict_files(model, [path], tmp_path / "out")
    assert (report.written, report.failed) == (1, [])
    image, mask = nibabel.load(path), nibabel.load(tmp_path / "out" / "a.nii.gz")
    assert np.array_equal(mask.affine, image.affine)
    assert np.array_equal(mask.header.get_sform(coded=True)[0], image.affine)
    assert mask.header["qform_code"] == image.header["qform_code"]
    assert set(np.unique(mask.dataobj).tolist()) == set(ORGANS.values())
    assert np.array_equal(np.asarray(mask.dataobj), model.predict(path))


@pytest.mark.parametrize("classes", [BINARY, ORGANS])
def test_the_mask_does_not_depend_on_the_memory(classes: dict[str, int]) -> None:
    model = builders.model(classes, spacing_mm=(3.0, 1.0, 1.3), patch=(4, 6, 6), overlap=0.6)
    stored = voxels(shape=(7, 17, 15)).astype(np.float32)[None]
    image = for_network(stored, (2.0, 1.0, 1.0), model.settings, (5, 17, 12))
    whole = model.classify(image, (7, 17, 15))
    parts = list(model.slabs(image, (7, 17, 15), tta=False, room=0))
    assert len({slab.box for slab in parts}) > 8
    assert 0 < (whole > 0).mean() < 1
    for room in (0, 30_000, 60_000):
        assert np.array_equal(model.classify(image, (7, 17, 15), room=room), whole)


def test_probabilities_do_not_depend_on_the_memory_but_for_rounding(model: VolumeModel) -> None:
    image = for_network(voxels()[None].astype(np.float32), None, model.settings, SHAPE)
    kept = np.empty((2, 3, *SHAPE), np.float32)
    for each, room in zip(kept, (None, 0), strict=True):
        model.classify(image, SHAPE, room=room, keep=each)
    assert np.allclose(*kept, atol=1e-6)


def test_the_class_is_that_of_the_largest_probability(model: VolumeModel, tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", voxels(), np.diag([1.0, 3.0, 4.0, 1.0]))
    shares, mask = model.predict_probabilities(path), model.predict(path)
    assert shares.shape == (3, *SHAPE)
    assert np.allclose(shares.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(np.array(list(ORGANS.values()))[shares.argmax(axis=0)], mask)


def test_a_binary_model_decides_by_its_threshold_and_temperature() -> None:
    model = builders.model(BINARY)
    array = voxels(shape=(5, 7, 9))
    share = model.predict_probabilities(array, spacing=(5.0, 2.0, 2.0))
    assert share.shape == (1, 5, 7, 9)
    for threshold in (0.3, 0.6):
        model.manifest = model.manifest.model_copy(update={"threshold": threshold})
        mask = model.predict(array, spacing=(5.0, 2.0, 2.0))
        assert np.array_equal(mask, np.where(share[0] >= threshold, 255, 0))
    model.manifest = model.manifest.model_copy(update={"temperature": 2.0})
    milder = model.predict_probabilities(array, spacing=(5.0, 2.0, 2.0))
    assert np.allclose(np.log(milder / (1 - milder)) * 2, np.log(share / (1 - share)), atol=1e-4)


def test_an_array_and_the_file_that_holds_it_get_one_mask(
    model: VolumeModel, tmp_path: Path
) -> None:
    # Slices from the feet upwards, rows from the front, columns from the right.
    stored = voxels(shape=(5, 7, 9))
    path = save_nifti(tmp_path / "a.nii.gz", stored.T, np.diag([-2.5, -2.0, 4.0, 1.0]))
    mask = model.predict(path)
    assert mask.shape == (9, 7, 5)
    assert np.array_equal(mask.T, model.predict(stored, spacing=(4.0, 2.0, 2.5)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 30, 3), (5, 6, 8)])
def test_a_volume_smaller_than_the_window_is_predicted(
    model: VolumeModel, shape: tuple[int, int, int]
) -> None:
    mask = model.predict(voxels(shape=shape), spacing=(5.0, 2.0, 2.0))
    assert mask.shape == shape


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((4, 5)), "shape \\(4, 5\\)"),
        (np.zeros((2, 3, 4, 5)), "shape \\(2, 3, 4, 5\\)"),
        (np.full((3, 4, 5), np.nan), "NaN"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(
    model: VolumeModel, array: NDArray[np.float64], found: str
) -> None:
    with pytest.raises(DataError, match=found):
        model.predict(array, spacing=(5.0, 2.0, 2.0))


def test_an_array_without_spacing_is_refused_where_the_model_resamples(model: VolumeModel) -> None:
    with pytest.raises(DataError, match="does not say the spacing"):
        model.predict(voxels())


def test_channels_lie_in_files_or_in_a_fourth_axis(tmp_path: Path) -> None:
    model = builders.model(channels=2)
    both = np.stack([voxels(0), voxels(1)], axis=-1)
    save_nifti(tmp_path / "a.nii.gz", both)
    for index in range(2):
        save_nifti(tmp_path / "in" / f"a_{index:04}.nii.gz", voxels(index))
    predict_files(model, [tmp_path / "in"], tmp_path / "out")
    mask = np.asarray(nibabel.load(tmp_path / "out" / "a.nii.gz").dataobj)
    assert np.array_equal(mask, model.predict(tmp_path / "a.nii.gz"))


def test_a_series_gives_a_nifti(model: VolumeModel, tmp_path: Path) -> None:
    series = dicom_series(tmp_path / "ct", voxels(shape=(5, 7, 9)).astype(np.uint16))
    report = predict_files(model, [series], tmp_path / "out")
    assert report.failed == []
    assert nibabel.load(tmp_path / "out" / "ct.nii.gz").shape == (9, 7, 5)


def test_contours_and_probabilities_are_those_of_the_slices_that_are_shown(
    tmp_path: Path,
) -> None:
    # Shown in sagittal slices, because these are thick; predicted in axial ones.
    model = builders.model(plane="axial")
    path = save_nifti(tmp_path / "a.nii.gz", voxels(shape=(3, 8, 9)), np.diag([9.0, 2, 2, 1]))
    predict_files(
        model, [path], tmp_path / "out", options=PredictOptions(overlay=True, probabilities=True)
    )
    names = [f"a/slice_{index:03}" for index in range(3)]
    assert [each for each in tree(tmp_path / "out") if "/" in each] == [
        *(f"overlay/{name}.png" for name in names),
        *(f"probabilities/{name}.npz" for name in names),
    ]
    shares = model.predict_probabilities(path)
    for index, name in enumerate(names):
        stored = np.load(tmp_path / "out" / "probabilities" / f"{name}.npz")["probabilities"]
        assert np.allclose(stored, shares[:, index].swapaxes(1, 2)[:, ::-1, ::-1], atol=1e-3)
        with Image.open(tmp_path / "out" / "overlay" / f"{name}.png") as contours:
            assert contours.size == (8, 9)


def test_tta_averages_over_what_the_model_was_trained_on(model: VolumeModel) -> None:
    stored = voxels(shape=(6, 8, 10))
    turned = model.predict_probabilities(stored[::-1, :, ::-1], tta=True, spacing=(5.0, 2.0, 2.0))
    straight = model.predict_probabilities(stored, tta=True, spacing=(5.0, 2.0, 2.0))
    assert np.allclose(turned[:, ::-1, :, ::-1], straight, atol=1e-5)


def test_tta_is_refused_for_a_model_that_saw_no_mirrored_volumes() -> None:
    with pytest.raises(ModelError, match="not trained on mirrored volumes"):
        builders.model().predict(voxels(), spacing=(5.0, 2.0, 2.0), tta=True)


def test_components_are_cleaned_in_3d() -> None:
    model = builders.model(postprocessing={"min_pixels": 10**6})
    assert not model.predict(voxels(), spacing=(5.0, 2.0, 2.0)).any()


def test_pictures_and_damaged_volumes_are_reported_and_the_others_done(
    model: VolumeModel, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        save_nifti(tmp_path / "in" / f"{name}.nii.gz", voxels())
    whole = (tmp_path / "in" / "a.nii.gz").read_bytes()
    (tmp_path / "in" / "a.nii.gz").write_bytes(whole[:-300])
    save(tmp_path / "in" / "c.png", disk())
    save_pages(tmp_path / "in" / "d.tif", voxels().astype(np.uint16))
    seen: list[tuple[int, int]] = []
    report = predict_files(
        model, [tmp_path / "in"], tmp_path / "out", progress=lambda *pair: seen.append(pair)
    )
    assert report.written == 1
    reasons = {source.path.name: reason for source, reason in report.failed}
    assert sorted(reasons) == ["a.nii.gz", "c.png", "d.tif"]
    assert "is a picture" in reasons["c.png"]
    assert "does not say the spacing" in reasons["d.tif"]
    assert tree(tmp_path / "out") == ["b.nii.gz", "predictions.json"]
    assert seen == sorted(seen)
    assert seen[-1] == (23, 23)


def test_a_limit_below_the_need_is_an_error_that_says_the_need(
    model: VolumeModel, tmp_path: Path
) -> None:
    path = save_nifti(tmp_path / "a.nii.gz", voxels())
    with pytest.raises(DataError, match=r"takes \d+ MB of memory") as caught:
        model.predict(path, max_ram="50MB")
    needed = caught.value.remedy.removeprefix("Allow ")
    more = f"{round(1.2 * int(needed.removesuffix(' MB')))}MB"
    assert np.array_equal(model.predict(path, max_ram=more), model.predict(path))


def test_a_network_whose_memory_cannot_be_foreseen_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unforeseeable(*_: object) -> int:
        raise RuntimeError("no content")

    monkeypatch.setattr(model_module, "forward_bytes", unforeseeable)
    model = builders.model()
    assert model.predict(voxels(), spacing=(5.0, 2.0, 2.0)).shape == SHAPE
    with pytest.raises(ModelError, match=r"cannot be foreseen \(no content\)"):
        model.need((4, 6, 8), (4, 6, 8), VolumeOptions())


def test_a_model_of_volumes_is_refused_where_only_pictures_can_be_used(path: Path) -> None:
    with pytest.raises(ModelError, match="it is a model of volumes"):
        load_network(path, system=SYSTEM)
    model = load(path, system=SYSTEM)
    for use in (
        lambda: model.prepare(np.zeros((4, 4, 1), np.uint8)),
        lambda: model.infer([np.zeros((1, 4, 4))], [(4, 4)]),
    ):
        with pytest.raises(ModelError, match="it is a model of volumes"):
            list(use())


def test_a_service_refuses_a_model_of_volumes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.serve.served.load", lambda file: builders.model())
    with pytest.raises(ModelError, match="it is a model of volumes"):
        load_models([path], threads=1)


def test_a_model_of_pictures_takes_no_limit(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match="this one takes pictures"):
        predict_files(
            load(trained),
            [save(tmp_path / "a.png", disk())],
            tmp_path / "out",
            options=PredictOptions(max_ram=10**9),
        )


def test_the_command_predicts_volumes_within_a_limit(path: Path, tmp_path: Path) -> None:
    image = save_nifti(tmp_path / "a.nii.gz", voxels())
    ran = medseg(
        "predict", path, image, "-o", tmp_path / "out", "--system", SYSTEM, "--max-ram", "4GB"
    )
    assert ran.out == f"1 mask written to {tmp_path / 'out'}\n"
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["tta"] is False
    small = medseg(
        "predict", path, image, "-o", tmp_path / "two", "--system", SYSTEM, "--max-ram", "100MB"
    )
    assert small.code == 1
    assert "of memory where --max-ram allows 100 MB" in small.message


def test_pictures_that_are_slices_get_the_mask_of_their_volume(tmp_path: Path) -> None:
    pattern = r"(.+)_slice_(\d+)"
    model = builders.model(spacing_mm=None, plane="", recipe={"data": {"slices": pattern}})
    slices = np.random.default_rng(0).integers(0, 255, (11, 7, 9)).astype(np.uint8)
    for index, picture in enumerate(slices):
        save(tmp_path / "in" / f"p_slice_{index}.png", picture)
    report = predict_files(model, [tmp_path / "in"], tmp_path / "out")
    assert report.failed == []
    assert tree(tmp_path / "out") == ["p.tif", "predictions.json"]

    values = read_labels((tmp_path / "out" / "p.tif",)).values
    assert np.array_equal(values, model.predict(slices))
