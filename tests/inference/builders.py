"""Tiny bundles with random weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from medseg.inference.bundle import Manifest, Preprocessing, StoredLabel, write_bundle
from medseg.inference.promptable import PromptableModel
from medseg.models import create_model
from medseg.nn.blocks import count_parameters

NETWORK: dict[str, Any] = {"widths": [4, 6, 8], "depths": [1, 1], "kernel": 3, "expansion": 2}
BINARY = {"background": 0, "nucleus": 255}
ORGANS = {"background": 0, "liver": 10, "vein": 1000}
COLOURS = {"background": 0x000000, "tumour": 0xFF8000, "stroma": 0x0000FF}


def manifest_and_weights(
    labels: dict[str, int] = BINARY,
    *,
    rgb: bool = False,
    channels: int = 3,
    seed: int = 0,
    size: int = 32,
    system: str = "med2d-segnet",
    options: dict[str, Any] = NETWORK,
) -> tuple[Manifest, bytes]:
    """What a training of ``system`` would store; the masks of noise hold every class."""
    torch.manual_seed(seed)
    classes = 1 if len(labels) == 2 else len(labels)
    network = create_model(system, in_channels=channels, num_classes=classes, **options)
    with torch.no_grad():
        logits = network.eval()(torch.randn(1, channels, size, size))
        network.get_parameter("head.bias").sub_(logits.mean((0, 2, 3)))
    weights = save(network.state_dict())
    manifest = Manifest(
        system=system,
        network=options,
        num_classes=classes,
        labels=tuple(StoredLabel(name=name, value=value) for name, value in labels.items()),
        rgb=rgb,
        preprocessing=Preprocessing(
            image_size=size,
            channels=3 if channels == 3 else 1,
            mean=(0.5,) * channels,
            std=(0.25,) * channels,
        ),
        recipe={"seed": seed},
        data={"name": "noise"},
        scores={"val_dice": 0.5},
        parameters=count_parameters(network),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    return manifest, weights


def bundle(path: Path, *args: Any, **options: Any) -> Path:
    """Write a bundle with :func:`manifest_and_weights`."""
    write_bundle(path, *manifest_and_weights(*args, **options))
    return path


def promptable(size: int = 32) -> PromptableModel:
    """A network with random weights that answers a click with about half of the image."""
    torch.manual_seed(0)
    options = {"widths": [6, 6]}
    network = create_model("scribbleprompt", in_channels=1, num_classes=1, **options).eval()
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(3 if weights.ndim > 1 else 1)
        logits = network(torch.randn(1, 1, size, size))
        network.get_parameter("final_conv.conv.0.bias").sub_(logits.median())
    manifest = Manifest(
        system="scribbleprompt",
        network=options,
        num_classes=1,
        labels=(StoredLabel(name="background", value=0), StoredLabel(name="organ", value=255)),
        preprocessing=Preprocessing(image_size=size, channels=1, mean=(0.5,), std=(0.25,)),
        prompts=("point", "box", "scribble", "mask"),
        recipe={},
        data={"name": "noise"},
        scores={},
        parameters=count_parameters(network),
        weights_sha256="",
    )
    return PromptableModel(manifest, network, device="cpu")
