from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from medseg.errors import MedsegError
from medseg.export.formats import (
    Artefact,
    check_installed,
    open_artefact,
    write_openvino,
    write_torchscript,
)
from medseg.inference.network import Model
from medseg.inference.predictor import load

from .conftest import noise


@pytest.fixture(scope="module", params=["onnx", "openvino", "torchscript"])
def artefact(
    request: pytest.FixtureRequest,
    model: Model,
    graph: bytes,
    tmp_path_factory: pytest.TempPathFactory,
) -> Artefact:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "onnx":
        (folder / "m.onnx").write_bytes(graph)
        return open_artefact(folder / "m.onnx")
    if request.param == "openvino":
        write_openvino(graph, model.manifest, folder / "m.xml")
        return open_artefact(folder / "m.xml")
    write_torchscript(model, model.manifest, folder / "m.pt")
    return open_artefact(folder / "m.pt")


# Much larger than the network's 24 pixels: without antialiasing most pixels would differ.
@pytest.mark.parametrize("size", [(24, 24), (150, 97), (1, 40)])
def test_every_format_gives_the_mask_of_pytorch(
    artefact: Artefact, model: Model, size: tuple[int, int]
) -> None:
    image = noise(size)
    assert np.array_equal(artefact.predictor.predict(image), model.predict(image))
    shares = artefact.predictor.predict_probabilities(image)
    assert np.abs(shares - model.predict_probabilities(image)).max() < 2e-5


def test_every_format_takes_any_batch(artefact: Artefact, model: Model) -> None:
    images = np.stack([noise((31, 45), seed) for seed in range(3)])
    masks, shares = artefact.run(images)
    assert (masks.shape, masks.dtype) == ((3, 31, 45), np.uint8)
    assert (shares.shape, shares.dtype) == ((3, 3, 31, 45), np.float32)
    for image, mask in zip(images, masks, strict=True):
        assert np.array_equal(artefact.run(image[None])[0][0], mask)


def test_every_format_holds_the_manifest(artefact: Artefact, model: Model) -> None:
    assert artefact.predictor.manifest == model.manifest


def test_every_format_averages_over_flips_like_pytorch(artefact: Artefact, model: Model) -> None:
    image = noise((40, 30))
    shares = artefact.predictor.predict_probabilities(image, tta=True)
    assert np.abs(shares - model.predict_probabilities(image, tta=True)).max() < 2e-5
    assert np.abs(shares - model.predict_probabilities(image)).max() > 1e-3


def test_a_grey_image_is_repeated_for_a_model_of_colour(artefact: Artefact, model: Model) -> None:
    grey = noise((33, 29), channels=1)
    assert np.array_equal(artefact.predictor.predict(grey), model.predict(grey))


def test_what_opens_an_onnx_file_is_what_load_gives(graph: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(graph)
    opened = open_artefact(tmp_path / "m.onnx").predictor
    assert type(opened) is type(load(tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    ("name", "module", "extra"), [("onnx", "onnxscript", "export"), ("openvino",) * 3]
)
def test_a_missing_module_is_named_with_its_extra(
    name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MedsegError, match=rf"--format {name}: .*medseg\[{extra}\]"):
        check_installed(name)  # type: ignore[arg-type]
