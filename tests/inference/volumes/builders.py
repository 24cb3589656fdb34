"""Tiny models of volumes with random weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from medseg.inference.bundle import Manifest, Preprocessing, StoredLabel, write_bundle
from medseg.inference.volumes.model import VolumeModel
from medseg.models import create_model

SYSTEM = str(Path(__file__).with_name("tiny_network.py"))
BINARY = {"background": 0, "organ": 255}
ORGANS = {"background": 0, "liver": 10, "vein": 1000}
PATCH = (4, 6, 8)


def manifest_and_weights(
    labels: dict[str, int] = ORGANS,
    *,
    system: str = SYSTEM,
    channels: int = 1,
    options: dict[str, Any] | None = None,
    postprocessing: dict[str, Any] | None = None,
    recipe: dict[str, Any] | None = None,
    **volume: Any,
) -> tuple[Manifest, bytes]:
    """What a training would store; ``volume`` is its section of that name."""
    torch.manual_seed(0)
    classes = 1 if len(labels) == 2 else len(labels)
    network = create_model(system, in_channels=channels, num_classes=classes, **(options or {}))
    weights = save(network.state_dict())
    manifest = Manifest.model_validate(
        {
            "system": system,
            "network": options or {},
            "num_classes": classes,
            "labels": [StoredLabel(name=name, value=value) for name, value in labels.items()],
            "preprocessing": Preprocessing(
                image_size=1, channels=channels, mean=(0,) * channels, std=(1,) * channels
            ),
            "volume": {
                "spacing_mm": (5.0, 2.0, 2.0),
                "patch": PATCH,
                "intensity": [{"kind": "zscore"}] * channels,
                **volume,
            },
            "postprocessing": postprocessing or {},
            "recipe": recipe or {},
            "data": {},
            "scores": {},
            "parameters": 1,
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
        }
    )
    return manifest, weights


def model(*args: Any, **options: Any) -> VolumeModel:
    """A model of :func:`manifest_and_weights`."""
    manifest, _ = manifest_and_weights(*args, **options)
    torch.manual_seed(0)
    network = create_model(
        SYSTEM,
        in_channels=manifest.preprocessing.channels,
        num_classes=manifest.num_classes,
        **manifest.network,
    )
    return VolumeModel(manifest, network, device="cpu")


def bundle(path: Path, *args: Any, **options: Any) -> Path:
    """Write a bundle with :func:`manifest_and_weights`; load it with ``system=SYSTEM``."""
    write_bundle(path, *manifest_and_weights(*args, **options))
    return path
