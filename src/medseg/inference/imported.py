"""Published checkpoints as bundles, from which training starts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor

from medseg.errors import ModelError, RecipeError
from medseg.inference.bundle import SUFFIX, Manifest, Preprocessing, StoredLabel, write_bundle
from medseg.models import create_model, network_class, network_options
from medseg.nn.published import Published

_HOLDERS = ("network_weights", "state_dict")
"""Keys under which nnU-Net 2 and 1 keep the weights among other things."""


def import_checkpoint(source: Path, output: Path, *, system: str, trust: bool) -> Manifest:
    """Write the weights of a published checkpoint as a bundle, once and for all.

    The bundle is there to start a training from (``--init``): a checkpoint does not say how its
    images were prepared.

    Args:
        source: a PyTorch file: a state dict, or one among the other things that nnU-Net stores.
        output: the ``.medseg`` file to write.
        system: whose network knows the layout, e.g. ``stu-net-s``.
        trust: read a pickle at all. Even then only weights and numbers are unpickled, no code.

    Returns:
        What the bundle says of itself.

    Raises:
        ModelError: not trusted, unreadable, or of another layout.
        RecipeError: the system knows no published layout.
    """
    if output.suffix != SUFFIX:
        raise ModelError(f"-o {output}", "it is no name for a bundle", f"Name a {SUFFIX} file")
    known: Callable[[Mapping[str, Tensor]], Published] | None = getattr(
        network_class(system), "published", None
    )
    if known is None:
        raise RecipeError(
            f"--system {system}", "it knows no layout of published weights", "Name e.g. stu-net-s"
        )
    weights = _read(source, trust=trust)
    try:
        found = known(weights)
        network = create_model(
            system,
            in_channels=found.in_channels,
            num_classes=found.num_classes,
            **found.options,
        )
        network.load_state_dict(dict(found.weights))
    except (ValueError, RuntimeError) as error:
        raise ModelError(source, f"it does not fit {system} ({error})", "Check --system") from error
    stored = save_safetensors(network.state_dict())
    names = ("background", *(f"class_{k}" for k in range(1, max(2, found.num_classes))))
    manifest = Manifest(
        system=system,
        network=network_options(system, found.options),
        num_classes=found.num_classes,
        labels=tuple(StoredLabel(name=name, value=value) for value, name in enumerate(names)),
        preprocessing=Preprocessing(
            image_size=found.image_size,
            channels=found.in_channels,
            mean=(found.mean,) * found.in_channels,
            std=(found.std,) * found.in_channels,
        ),
        recipe={},
        data={"name": source.name},
        scores={},
        parameters=sum(each.numel() for each in network.parameters()),
        weights_sha256=hashlib.sha256(stored).hexdigest(),
    )
    return write_bundle(output, manifest, stored)


def _read(source: Path, *, trust: bool) -> dict[str, Tensor]:
    if not source.is_file():
        raise ModelError(source, "there is no such file", "Check the path")
    if not trust:
        raise ModelError(
            source, "it is a pickle, made by a program that is not this one",
            "If you trust its author, repeat with --trust",
        )  # fmt: skip
    try:
        with torch.serialization.safe_globals(_numbers()):
            content = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling may raise anything
        reason = str(error).partition("\n")[0]
        raise ModelError(
            source, f"it holds more than weights and numbers, or is damaged ({reason})",
            "Save its state dict alone",
        ) from error  # fmt: skip
    for holder in _HOLDERS:
        if isinstance(content, dict) and isinstance(content.get(holder), dict):
            content = content[holder]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ModelError(source, "it holds no state dict", "Save model.state_dict()")
    return content


def _numbers() -> list[Any]:
    """What numpy's numbers are unpickled with: nnU-Net stores its losses as such."""
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = [type(np.dtype(kind)) for kind in ("float64", "float32", "int64")]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]
