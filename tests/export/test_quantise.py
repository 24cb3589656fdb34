from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from medseg.errors import ModelError
from medseg.export.graph import to_onnx
from medseg.export.parity import predict
from medseg.export.quantise import quantise
from medseg.inference.network import Model, load_network
from medseg.inference.runtime import OnnxModel, manifest_of_graph

from .conftest import noise

PIXELWISE = """
from torch import nn

class Pixelwise(nn.Conv2d):
    def __init__(self, in_channels, num_classes):
        super().__init__(in_channels, num_classes, 1)
"""


@pytest.fixture(scope="module")
def small(model: Model, graph: bytes) -> bytes:
    return quantise(graph, model.manifest, [noise((40, 30), seed) for seed in range(8)])


def convolutions(graph: bytes) -> list[tuple[Any, set[str]]]:
    """Each convolution with the operations that make its inputs."""
    nodes = onnx.load_from_string(graph).graph.node
    maker = {name: node.op_type for node in nodes for name in node.output}
    return [
        (node, {maker[name] for name in node.input if name in maker})
        for node in nodes
        if node.op_type == "Conv"
    ]


def test_all_convolutions_but_the_first_and_the_last_are_in_8_bits(small: bytes) -> None:
    makers = [made_by for _, made_by in convolutions(small)]
    assert len(makers) > 4
    assert "DequantizeLinear" not in makers[0] | makers[-1]
    assert all(made_by == {"DequantizeLinear"} for made_by in makers[1:-1])


def test_resizing_normalisation_and_decision_stay_float(graph: bytes, small: bytes) -> None:
    before, after = (
        {
            node.name: list(node.input)
            for node in onnx.load_from_string(each).graph.node
            if node.op_type in ("Resize", "Sub", "Div", "ArgMax", "Softmax", "Cast", "Transpose")
        }
        for each in (graph, small)
    )
    assert len(before) > 5
    assert before.keys() == after.keys()


def test_weights_of_a_channel_have_a_scale_and_seven_bits(small: bytes) -> None:
    stored = {each.name: each for each in onnx.load_from_string(small).graph.initializer}
    weights = [onnx.numpy_helper.to_array(each) for name, each in stored.items()
               if name.endswith("weight_quantized")]  # fmt: skip
    assert len(weights) > 4
    for each in weights:
        assert each.dtype == np.int8
        assert 60 <= np.abs(each.astype(int)).max() <= 64
    scales = [np.size(onnx.numpy_helper.to_array(each)) for name, each in stored.items()
              if name.endswith("weight_scale")]  # fmt: skip
    assert sorted(scales) == sorted(len(each) for each in weights)


def test_a_quantised_graph_holds_the_manifest(model: Model, small: bytes) -> None:
    assert manifest_of_graph(Path("m.onnx"), small) == model.manifest


def test_probabilities_stay_near(model: Model, small: bytes) -> None:
    exported = OnnxModel(model.manifest, small)
    image = noise((40, 30), 9)
    before, after = (predict(each, image).probabilities for each in (model, exported))
    assert before is not None
    assert after is not None
    assert 0 < np.abs(before - after).mean() < 0.02


def test_the_same_images_give_the_same_bytes(model: Model, graph: bytes, small: bytes) -> None:
    images = [noise((40, 30), seed) for seed in range(8)]
    assert quantise(graph, model.manifest, images) == small


def test_a_network_of_few_convolutions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(PIXELWISE)
    state = {"weight": torch.randn(1, 3, 1, 1), "bias": torch.zeros(1)}
    torch.save(state, tmp_path / "net.pth")
    model = load_network(tmp_path / "net.pth", trust=True, system=str(tmp_path / "net.py"))
    with pytest.raises(ModelError, match=r"--int8: .*net\.py has 1 convolution, too few"):
        quantise(to_onnx(model), model.manifest, [noise((8, 8))])
