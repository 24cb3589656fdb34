from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

import medseg as package
from commands import medseg
from data.volumes import ramp, save_nifti
from inference.builders import bundle
from inference.volumes.builders import bundle as volume_bundle
from medseg.errors import ModelError
from medseg.inference.bundle import Golden, Manifest, read_bundle, read_golden, write_bundle
from medseg.inference.network import load_network
from medseg.inference.pruning import prune

WIDTHS = (4, 6, 8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of UNet++ with two columns and random weights."""
    import hashlib

    from safetensors.torch import save

    from medseg.inference.bundle import Preprocessing, StoredLabel
    from medseg.networks.unetpp import UNetPlusPlus

    torch.manual_seed(0)
    network = UNetPlusPlus(3, 1, widths=WIDTHS).eval()
    with torch.no_grad():
        for head, logits in zip(
            ("2", "1"), network.forward_all(torch.randn(1, 3, 32, 32)), strict=True
        ):
            network.get_parameter(f"heads.{head}.weight").div_(logits.std())
            network.get_parameter(f"heads.{head}.bias").sub_(logits.mean() / logits.std())
    weights = save(network.state_dict())
    manifest = Manifest(
        system="unetpp",
        network={"widths": list(WIDTHS)},
        num_classes=1,
        labels=(StoredLabel(name="background", value=0), StoredLabel(name="spot", value=255)),
        preprocessing=Preprocessing(image_size=32, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3),
        temperature=2.0,
        recipe={},
        data={"name": "noise"},
        scores={"val_dice": 0.5},
        parameters=sum(p.numel() for p in network.parameters()),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    path = tmp_path_factory.mktemp("pruning") / "whole.medseg"
    write_bundle(path, manifest, weights)
    model = load_network(path, device="cpu")
    image = noise()
    classes = (model.predict(image) > 0).astype(np.uint8)
    write_bundle(path, manifest, weights, golden=[Golden(image, classes)])
    return path


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def test_the_pruned_model_has_fewer_weights_and_says_so(whole: Path) -> None:
    before = read_bundle(whole)
    pruned = prune(whole, before, 1)
    assert len(pruned.weights) < len(before.weights) / 2
    assert pruned.manifest.parameters < before.manifest.parameters / 2
    assert pruned.manifest.network == {"widths": list(WIDTHS), "depth": 1}


def test_what_was_measured_of_the_whole_is_not_said_of_the_pruned(whole: Path) -> None:
    manifest = prune(whole, read_bundle(whole), 1).manifest
    assert (manifest.scores, manifest.temperature, manifest.golden) == ({}, 1.0, ())


def test_a_pruned_model_gives_the_masks_of_its_columns_head(whole: Path) -> None:
    model, pruned = load_network(whole, device="cpu"), package.load(whole, device="cpu", depth=1)
    with torch.inference_mode():
        inputs = model.preprocess(noise())[None]
        logits = model.network.forward_all(inputs)[-1][0, 0]
    expected = np.where(logits.numpy() >= 0, 255, 0)
    found = pruned.predict(noise())
    assert np.array_equal(found, expected)
    assert not np.array_equal(found, model.predict(noise()))


def test_predict_prunes_with_depth(whole: Path, tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.png")
    for depth in (1, 2):
        done = medseg("predict", whole, tmp_path / "a.png", "-o", tmp_path / str(depth),
                      "--depth", depth)  # fmt: skip
        assert done.code == 0, done.err
    masks = [np.asarray(Image.open(tmp_path / str(depth) / "a.png")) for depth in (1, 2)]
    assert np.array_equal(masks[0], package.load(whole, depth=1).predict(noise()))
    assert np.array_equal(masks[1], package.load(whole).predict(noise()))


def test_an_exported_bundle_of_a_depth_is_the_pruned_model(whole: Path, tmp_path: Path) -> None:
    done = medseg("export", whole, "-o", tmp_path / "small.medseg", "--depth", 1)
    assert done.code == 0, done.err
    small = load_network(tmp_path / "small.medseg", device="cpu")
    pruned = load_network(whole, device="cpu", depth=1)
    assert small.manifest.parameters == pruned.manifest.parameters
    assert np.array_equal(small.predict(noise()), pruned.predict(noise()))
    (golden,) = read_golden(tmp_path / "small.medseg")
    assert np.array_equal(golden.image, noise())
    assert np.array_equal(golden.classes, pruned.predict(noise()) // 255)


@pytest.mark.parametrize("depth", [3, 100])
def test_a_depth_that_is_not_there_is_refused(whole: Path, depth: int) -> None:
    with pytest.raises(ModelError, match=rf"--depth {depth}.*depth {depth} is not in 1 to 2"):
        load_network(whole, device="cpu", depth=depth)


def test_a_network_that_cannot_be_pruned_is_refused(tmp_path: Path) -> None:
    path = bundle(tmp_path / "plain.medseg")
    with pytest.raises(ModelError, match="med2d-segnet cannot be pruned"):
        load_network(path, device="cpu", depth=1)


def test_a_network_without_a_head_at_the_depth_is_refused(whole: Path) -> None:
    from safetensors.torch import load, save

    before = read_bundle(whole)
    weights = {name: each for name, each in load(before.weights).items() if "heads.1" not in name}
    headless = type(before)(before.manifest, save(weights))
    with pytest.raises(ModelError, match=r"no weights for heads\.1"):
        prune(whole, headless, 1)


def test_onnx_runtime_cannot_prune(whole: Path) -> None:
    refused = medseg("predict", whole, "x.png", "-o", "out", "--depth", 1, "--engine", "onnx")
    assert refused.code == 2
    assert "cannot be pruned any more" in refused.message


def test_volumes_are_predicted_at_a_depth_too(tmp_path: Path) -> None:
    options = {"widths": list(WIDTHS), "dims": 3}
    whole = volume_bundle(tmp_path / "whole.medseg", system="unetpp", options=options)
    assert medseg("export", whole, "-o", tmp_path / "1.medseg", "--depth", 1).code == 0
    save_nifti(tmp_path / "a.nii.gz", ramp((12, 10, 6)))
    masks = []
    for name, model, *depth in (
        ("small", tmp_path / "1.medseg"), ("pruned", whole, "--depth", 1), ("whole", whole),
    ):  # fmt: skip
        done = medseg("predict", model, tmp_path / "a.nii.gz", "-o", tmp_path / name, *depth)
        assert done.code == 0, done.err
        masks.append(np.asarray(nibabel.load(tmp_path / name / "a.nii.gz").dataobj))
    assert np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[1], masks[2])
