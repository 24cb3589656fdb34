from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from inference.builders import manifest_and_weights
from medseg import systems
from medseg.errors import ModelError
from medseg.export.formats import open_artefact, write_openvino, write_torchscript
from medseg.export.graph import to_onnx
from medseg.export.parity import check_parity, check_shapes, synthetic, synthetic_cases
from medseg.inference.network import Model
from medseg.models import create_model, network_options
from medseg.nn.blocks import count_parameters


def of_system(name: str) -> Model:
    """Random weights, 64 px; half of an image is foreground, and logits have a spread of 2.

    Batch norms have seen images: without, some networks' logits hardly differ from each other.
    """
    torch.manual_seed(0)
    network = create_model(name)
    manifest = manifest_and_weights(size=64)[0].model_copy(
        update={
            "system": name,
            "network": network_options(name, {}),
            "parameters": count_parameters(network),
        }
    )
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    plain = Model(manifest, network, device="cpu")
    inputs = torch.stack([plain.preprocess(synthetic(manifest, (64, 64), s)) for s in range(8)])
    with torch.no_grad():
        network.train()(inputs)
    network.eval()
    logits = plain.logits(inputs)
    temperature = min(20.0, max(0.05, float(logits.std()) / 2))
    threshold = float(torch.sigmoid(logits.median() / temperature))
    fitted = manifest.model_copy(update={"temperature": temperature, "threshold": threshold})
    return Model(fitted, network, device="cpu")


# OpenVINO 2026.4 fuses layers of it into something else: every layer that is asked for as an output
# is right, the whole is not. Such a file is refused; where this fails, OpenVINO has been mended.
REFUSED = {("u-lite", "m.xml")}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        name
        for name in systems.names()
        if 2 in systems.load_card(name).dims and not systems.load_card(name).prompts
    ],
)
def test_every_system_gives_the_same_masks_in_every_format(name: str, tmp_path: Path) -> None:
    model = of_system(name)
    cases = synthetic_cases(model)
    assert 0 < cases[0].classes.mean() < 1
    graph = to_onnx(model)
    (tmp_path / "m.onnx").write_bytes(graph)
    write_openvino(graph, model.manifest, tmp_path / "m.xml")
    write_torchscript(model, model.manifest, tmp_path / "m.pt")
    for file in ("m.onnx", "m.xml", "m.pt"):
        artefact = open_artefact(tmp_path / file)
        if (name, file) in REFUSED:
            with pytest.raises(ModelError, match="it does not give PyTorch's masks"):
                check_parity(artefact, cases, f"{name} {file}", model)
            continue
        check_parity(artefact, cases, f"{name} {file}", model)
        check_shapes(artefact, f"{name} {file}")
