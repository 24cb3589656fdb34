"""Training on whole volumes, end to end on a tiny network."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

import medseg
from commands import medseg as command
from commands import parts_of
from data.volumes import AXIAL, balls, save_nifti, save_pages
from medseg.data.case import IGNORE
from medseg.engine import loop as loop_module
from medseg.engine.checkpoint import load_checkpoint
from medseg.engine.loop import Interrupted
from medseg.engine.train import Run, plan_training, train
from medseg.engine.volume_feed import VolumeFeed
from medseg.errors import DataError, RecipeError
from medseg.inference.bundle import read_golden, read_manifest
from medseg.inference.volumes.predictor import VolumePredictor

NETWORK = """
from torch import Tensor, nn


class Tiny(nn.Module):
    def __init__(self, in_channels: int = 1, num_classes: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(in_channels, 6, 3, padding=1), nn.InstanceNorm3d(6, affine=True), nn.ReLU(),
            nn.Conv3d(6, 6, 3, padding=1), nn.ReLU(), nn.Conv3d(6, num_classes, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.body(image)
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("network") / "tiny.py"
    path.write_text(NETWORK)
    return str(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return balls(tmp_path_factory.mktemp("balls") / "data", 8)


def run(data: Path, output: Path, network: str, *settings: str, **options: Any) -> Run:
    given: dict[str, Any] = {"epochs": 2, "batch_size": 2, "system": network, "quiet": True}
    small = ("data.dims=3", "data.patch=[8,8,8]", "data.patches_per_volume=1", *settings)
    return train(data, output=output, settings=small, device="cpu", **{**given, **options})


@pytest.fixture(scope="module")
def reference(data: Path, network: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An uninterrupted run."""
    return run(data, tmp_path_factory.mktemp("reference") / "run", network)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    groups, _ = load_checkpoint(folder / "checkpoints" / "last.safetensors")
    return {f"{group}/{name}": t for group, named in groups.items() for name, t in named.items()}


def test_a_run_stopped_in_mid_epoch_resumes_to_the_same_bits(
    data: Path, reference: Run, network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = 0
    original = loop_module.TrainingLoop._step

    def step(self: loop_module.TrainingLoop, batch: Any) -> dict[str, float]:
        nonlocal taken
        taken += 1
        self.stop_asked = taken == 4
        return original(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop_module.TrainingLoop, "_step", step)
        with pytest.raises(Interrupted, match="--resume"):
            run(data, tmp_path / "run", network)
    run(data, tmp_path / "run", network, resume=True)
    ours, theirs = tensors(reference.folder), tensors(tmp_path / "run")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (tmp_path / "run" / "model.medseg").read_bytes() == reference.bundle.read_bytes()


def test_the_split_keeps_all_slices_of_a_volume_together(reference: Run) -> None:
    parts = parts_of(reference.folder)
    volumes = [{case.rpartition("/")[0] for case in cases} for cases in parts.values()]
    assert sum(map(len, volumes)) == len(set.union(*volumes)) == 8


def test_the_bundle_holds_pieces_of_validation_volumes_and_their_masks(
    reference: Run, network: str
) -> None:
    cases = read_golden(reference.bundle)
    validated = {case.rpartition("/")[0] for case in parts_of(reference.folder)["val"]}
    assert len(cases) == min(3, len(validated)) > 0
    model = medseg.load(reference.folder, device="cpu", system=network)
    assert isinstance(model, VolumePredictor)
    for case in cases:
        assert np.array_equal(model.predict_array(case.image, case.spacing).classes, case.classes)


def test_the_validation_dice_is_that_of_whole_volumes(
    data: Path, reference: Run, network: str
) -> None:
    scores = medseg.evaluate(data, reference.folder, part="val", system=network)
    dice = np.mean([row.metrics["dice"] for row in scores.rows])
    assert reference.val_dice == pytest.approx(dice, abs=1e-6)


def test_the_model_says_how_volumes_become_its_input(reference: Run) -> None:
    manifest = read_manifest(reference.bundle)
    assert manifest.volume is not None
    assert manifest.volume.plane == "axial"
    assert manifest.volume.spacing_mm == (5.0, 2.0, 2.0)
    assert manifest.volume.patch == (8, 8, 8)
    assert [rule.kind for rule in manifest.volume.intensity] == ["zscore"]
    assert manifest.volume.mirror == (0, 1, 2)
    assert manifest.data["cases"] == {"train": 6, "val": 1, "test": 1}
    # A hash for each slice of the volumes that were trained or chosen on.
    assert len(manifest.data["seen"]) == 7 * 12


def test_training_learns_the_balls(data: Path, network: str, tmp_path: Path) -> None:
    found = run(
        data, tmp_path / "run", network, "optimizer.learning_rate=0.02", "train.ema_decay=0",
        "data.patches_per_volume=4", epochs=8,
    )  # fmt: skip
    assert found.val_dice > 0.7


def test_a_volume_gets_a_mask_on_its_own_grid(data: Path, reference: Run, network: str) -> None:
    image = data / "images" / "000.nii.gz"
    mask = medseg.load(reference.folder, system=network).predict(image)
    assert mask.shape == nibabel.load(image).shape


def test_the_plan_gives_a_reason_for_every_choice(data: Path, network: str) -> None:
    plan = plan_training(data, system=network, settings=["data.dims=3"], device="cpu", quiet=True)
    assert plan.recipe.data.patch == (16, 16, 16)
    assert plan.recipe.data.spacing == (5.0, 2.0, 2.0)
    assert all(choice.reason for choice in plan.choices.values())
    json.dumps(plan.to_json())


def test_data_plan_shows_volumes(data: Path, network: str) -> None:
    shown = command("data", "plan", data, "--system", network, "--set", "data.dims=3").out
    for words in ("8, of which 8 labelled and 6 to train on", "5.00 mm", "data.patch", "axial"):
        assert words in shown


def test_resampled_to_another_spacing_masks_come_back_to_their_own(
    data: Path, network: str, tmp_path: Path
) -> None:
    # The patch is larger than the volumes.
    found = run(
        data, tmp_path / "run", network, "data.spacing=[4.0,3.0,3.0]", "data.patch=[16,16,16]",
        epochs=1,
    )  # fmt: skip
    cached = next((tmp_path / "run" / "cache").glob("*/00000.mask.npy"))
    assert np.load(cached).shape == (15, 9, 11)
    image = data / "images" / "000.nii.gz"
    assert medseg.load(found.folder, system=network).predict(image).shape == (16, 14, 12)


def test_several_modalities_in_4d_files_are_channels(network: str, tmp_path: Path) -> None:
    training = []
    for index in range(4):
        random = np.random.default_rng(index)
        values = random.normal(0, 1, (10, 10, 8, 2)).astype(np.float32)
        mask = np.zeros((10, 10, 8), np.uint8)
        mask[2:6, 3:7, 2:6] = 1
        values[mask > 0] += 3
        save_nifti(tmp_path / "data" / "imagesTr" / f"{index}.nii.gz", values)
        save_nifti(tmp_path / "data" / "labelsTr" / f"{index}.nii.gz", mask)
        training.append(
            {"image": f"./imagesTr/{index}.nii.gz", "label": f"./labelsTr/{index}.nii.gz"}
        )
    declared = {
        "modality": {"0": "CT", "1": "MRI"},
        "labels": {"0": "background", "1": "left cube"},
        "numTraining": 4,
        "training": training,
    }
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(declared))
    manifest = read_manifest(run(tmp_path / "data", tmp_path / "run", network, epochs=1).bundle)
    assert manifest.preprocessing.channels == 2
    assert manifest.volume is not None
    assert [rule.kind for rule in manifest.volume.intensity] == ["ct", "zscore"]
    # Left and right differ in axial slices by their columns.
    assert manifest.volume.mirror == (0, 1)


def test_pictures_are_slices_where_the_recipe_says_so(network: str, tmp_path: Path) -> None:
    for volume in range(4):
        for index in range(9):
            random = np.random.default_rng(10 * volume + index)
            image = random.integers(0, 90, (12, 12), dtype=np.uint8)
            mask = np.zeros((12, 12), np.uint8)
            if 2 <= index < 7:
                mask[3:9, 4 : 8 + volume] = 255
            image[mask > 0] += 120
            for kind, picture in (("images", image), ("masks", mask)):
                path = tmp_path / "data" / kind / f"p{volume}_slice_{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(path)
    found = run(
        tmp_path / "data", tmp_path / "run", network, r"data.slices='(.+)_slice_(\d+)'", epochs=1
    )
    parts = parts_of(found.folder)
    assert {part: len(cases) for part, cases in parts.items()} == {"train": 18, "val": 9, "test": 9}
    manifest = read_manifest(found.bundle)
    assert manifest.volume is not None
    assert manifest.volume.spacing_mm is None


def test_pictures_alone_are_no_volumes(network: str, tmp_path: Path) -> None:
    for index in range(4):
        for kind, value in (("images", 60 * index), ("masks", 255)):
            picture = np.zeros((12, 12), np.uint8)
            picture[2:6, index : index + 4] = value or 10
            path = tmp_path / "data" / kind / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    with pytest.raises(DataError, match=r"is a picture.*data\.slices"):
        run(tmp_path / "data", tmp_path / "run", network, "data.allow_leak=true")


def test_volumes_of_unknown_spacing_are_taken_as_they_are(network: str, tmp_path: Path) -> None:
    root = balls(tmp_path / "nifti", 4)
    for kind in ("images", "labels"):
        for path in sorted((root / kind).iterdir()):
            values = np.asarray(nibabel.load(path).dataobj)
            if kind == "images":
                values = values.astype(np.uint16)
            save_pages(tmp_path / "data" / kind / f"{path.name[:3]}.tif", values.transpose(2, 1, 0))
    found = run(tmp_path / "data", tmp_path / "run", network, epochs=1)
    manifest = read_manifest(found.bundle)
    assert manifest.volume is not None
    assert (manifest.volume.plane, manifest.volume.spacing_mm) == ("", None)


def test_a_volume_that_alone_says_no_spacing_is_named(network: str, tmp_path: Path) -> None:
    root = balls(tmp_path / "data", 5)
    for kind, dtype in (("images", np.uint16), ("labels", np.uint8)):
        values = np.asarray(nibabel.load(root / kind / "001.nii.gz").dataobj).astype(dtype)
        (root / kind / "001.nii.gz").unlink()
        save_pages(root / kind / "001.tif", values.transpose(2, 1, 0))
    with pytest.raises(DataError, match=r"001\.tif.*does not say the spacing"):
        run(root, tmp_path / "run", network, "data.ratios=[0.9,0.1,0.0]", "seed=1")


def test_a_mask_on_another_grid_stops_training(network: str, tmp_path: Path) -> None:
    root = balls(tmp_path / "data", 4)
    moved = AXIAL.copy()
    moved[0, 3] = 7
    mask = np.asarray(nibabel.load(root / "labels" / "002.nii.gz").dataobj)
    save_nifti(root / "labels" / "002.nii.gz", mask, moved)
    with pytest.raises(DataError, match="lies up to 7 mm away"):
        run(root, tmp_path / "run", network)


def test_nan_voxels_stop_training(network: str, tmp_path: Path) -> None:
    root = balls(tmp_path / "data", 4)
    values = np.asarray(nibabel.load(root / "images" / "002.nii.gz").dataobj).copy()
    values[3, 3, 3] = np.nan
    save_nifti(root / "images" / "002.nii.gz", values)
    with pytest.raises(DataError, match=r"002\.nii\.gz.*NaN"):
        run(root, tmp_path / "run", network)


def test_a_spacing_of_0_stops_training(network: str, tmp_path: Path) -> None:
    root = balls(tmp_path / "data", 4)
    path = root / "images" / "002.nii.gz"
    image = nibabel.load(path)
    header = image.header.copy()
    header["srow_x"] = 0
    header["pixdim"][1] = 0
    header["qform_code"] = 0
    with contextlib.suppress(Exception):
        nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), None, header), path)
    with pytest.raises(DataError, match=r"002\.nii\.gz"):
        run(root, tmp_path / "run", network)


def test_a_training_without_foreground_in_some_volumes_goes_on(
    network: str, tmp_path: Path
) -> None:
    root = balls(tmp_path / "data", 5)
    for index in (0, 2):
        mask = np.zeros((16, 14, 12), np.uint8)
        save_nifti(root / "labels" / f"00{index}.nii.gz", mask)
    assert run(root, tmp_path / "run", network, epochs=1).epochs == 1


def test_a_network_of_images_refuses_volumes(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.dims=3: unet takes images"):
        run(data, tmp_path / "run", "unet")


def test_volumes_without_masks_are_half_of_each_batch(
    data: Path, reference: Run, network: str
) -> None:
    from medseg.data.volumes.cache import VolumeCache

    folder = next((reference.folder / "cache").glob("*/cases.json")).parent
    noted = json.loads((folder / "cases.json").read_text())
    cache = VolumeCache(
        folder, tuple(n for n, _ in noted), tuple(tuple(s) for _, s in noted), 1, True
    )
    recipe = reference.recipe.model_copy(
        update={"train": reference.recipe.train.model_copy(update={"batch_size": 4})}
    )

    def feed(rank: int, processes: int) -> VolumeFeed:
        return VolumeFeed(
            recipe, cache, train=np.arange(4), val=np.arange(4, 5), unlabelled=np.arange(5, 7),
            spacing=(5.0, 2.0, 2.0), device=torch.device("cpu"), rank=rank, processes=processes,
        )  # fmt: skip

    (one, two) = feed(0, 1).training(0, 0)
    assert one["labelled"].tolist() == two["labelled"].tolist() == [True, True, False, False]
    assert (one["mask"][2:] == IGNORE).all()
    assert (one["mask"][:2] != IGNORE).any()
    shares = [list(feed(rank, 2).training(0, 0))[1] for rank in range(2)]
    together = [share["case_id"][half] for half in range(2) for share in shares]
    assert tuple(together) == two["case_id"]
    assert torch.equal(
        torch.stack([share["image"][half] for half in range(2) for share in shares]), two["image"]
    )
