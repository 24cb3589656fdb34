from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save

from inference.builders import bundle
from medseg.errors import MedsegError, ModelError
from medseg.export.graph import OPSETS, to_onnx, to_onnx_beside_weights
from medseg.inference.bundle import read_bundle, write_bundle
from medseg.inference.network import Model, load_network
from medseg.inference.runtime import IMAGE, MASK, OnnxModel, load_onnx, manifest_of_graph

from .conftest import noise

SHY = """
from torch import nn

class Shy(nn.Conv2d):
    def __init__(self, in_channels, num_classes):
        super().__init__(in_channels, num_classes, 1)

    def forward(self, x):
        out = super().forward(x)
        return out if out.sum().item() > 0 else -out
"""


@pytest.mark.parametrize("size", [(24, 24), (1, 1), (37, 91), (200, 3), (130, 150)])
def test_the_graph_gives_the_mask_of_pytorch_for_images_of_any_size(
    model: Model, graph: bytes, size: tuple[int, int]
) -> None:
    exported = OnnxModel(model.manifest, graph)
    image = noise(size)
    assert np.array_equal(exported.predict(image), model.predict(image))
    shares = exported.predict_probabilities(image)
    assert np.abs(shares - model.predict_probabilities(image)).max() < 2e-5


def test_images_of_a_batch_get_the_masks_they_get_alone(model: Model, graph: bytes) -> None:
    exported = OnnxModel(model.manifest, graph)
    images = np.stack([noise((40, 33), seed) for seed in range(3)])
    (masks,) = exported.session.run([MASK], {IMAGE: images})
    values = np.array([label.value for label in model.labels.labels])
    for image, mask in zip(images, masks, strict=True):
        assert np.array_equal(values[mask], model.predict(image))


def test_the_graph_holds_the_manifest_and_is_of_the_oldest_opset(
    model: Model, graph: bytes
) -> None:
    assert manifest_of_graph(Path("m.onnx"), graph) == model.manifest
    opsets = {each.domain: each.version for each in onnx.load_from_string(graph).opset_import}
    assert opsets[""] == OPSETS[0] == 18


@pytest.mark.parametrize(
    ("opset", "reason"), [(17, "no antialiased resizing"), (26, "not known to PyTorch")]
)
def test_another_opset_is_refused_by_name(model: Model, opset: int, reason: str) -> None:
    with pytest.raises(MedsegError, match=rf"--opset {opset}: it .*{reason}.*from 18 to 25"):
        to_onnx(model, opset=opset)


@pytest.mark.slow
@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_is_written_and_gives_the_same_mask(model: Model, opset: int) -> None:
    graph = to_onnx(model, opset=opset)
    opsets = {each.domain: each.version for each in onnx.load_from_string(graph).opset_import}
    assert opsets[""] == opset
    image = noise((50, 41))
    assert np.array_equal(OnnxModel(model.manifest, graph).predict(image), model.predict(image))


def test_a_network_that_onnx_cannot_say_is_an_error_and_silent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shy.py").write_text(SHY)
    state = {"weight": torch.randn(1, 3, 1, 1), "bias": torch.zeros(1)}
    torch.save(state, tmp_path / "shy.pth")
    model = load_network(tmp_path / "shy.pth", trust=True, system=str(tmp_path / "shy.py"))
    with pytest.raises(ModelError, match=r"shy\.py: it cannot be exported to ONNX \(.+\)\. Try"):
        to_onnx(model)
    assert capfd.readouterr() == ("", "")


def test_the_threshold_and_the_temperature_are_in_the_graph(tmp_path: Path) -> None:
    plain = load_network(bundle(tmp_path / "m.medseg", size=16), device="cpu")
    changed = plain.manifest.model_copy(update={"threshold": 0.6, "temperature": 2.0})
    model = Model(changed, plain.network, device="cpu")
    image = noise((30, 20))
    mask = OnnxModel(changed, to_onnx(model)).predict(image)
    assert np.array_equal(mask, model.predict(image))
    assert 0 < (mask > 0).mean() < (plain.predict(image) > 0).mean()


def test_a_graph_beside_its_weights_is_small_and_gives_the_same_probabilities(
    model: Model, organs: Path, graph: bytes, tmp_path: Path
) -> None:
    bundle = read_bundle(organs)
    path = tmp_path / "model.medseg"
    lean = to_onnx_beside_weights(model)
    write_bundle(path, bundle.manifest, bundle.weights, graph=lean)
    stored = onnx.load_from_string(lean).graph.initializer
    assert not {f"network.{name}" for name in model.network.state_dict()} & {x.name for x in stored}
    image = noise((37, 91))
    expected = OnnxModel(model.manifest, graph).predict_probabilities(image)
    found = load_onnx(path).predict_probabilities(image)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_graph_whose_weights_are_gone_is_an_error_that_says_so(
    model: Model, organs: Path, tmp_path: Path
) -> None:
    bundle, path = read_bundle(organs), tmp_path / "model.medseg"
    other = save({"other": torch.zeros(2)})
    manifest = bundle.manifest.model_copy(
        update={"weights_sha256": hashlib.sha256(other).hexdigest()}
    )
    write_bundle(path, manifest, other, graph=to_onnx_beside_weights(model))
    with pytest.raises(ModelError, match="needs weights that are not there"):
        load_onnx(path)
