"""Cutting a trained network down to what an earlier output of it needs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from medseg.errors import MedsegError, ModelError
from medseg.inference.budget import built_within
from medseg.inference.bundle import Bundle, shown
from medseg.models import create_model, network_class, network_options


def prune(source: Path, bundle: Bundle, depth: int, system: str | None = None) -> Bundle:
    """A bundle of the network of ``depth``, with the weights that it has of the whole one.

    A network that can be pruned names the option for it in its attribute ``pruned_by``, and at
    every value its weights are among those of the whole network, by name.

    Args:
        source: of the bundle, for messages.
        bundle: of the whole network.
        depth: value of the option.
        system: of the network, where the bundle names a file.

    Returns:
        Without scores, calibration and golden cases: they were those of the whole network.

    Raises:
        ModelError: the network cannot be pruned, or not to this depth.
    """
    manifest = bundle.manifest
    name = system or manifest.system
    option = getattr(network_class(name), "pruned_by", None)
    where = f"--depth {depth}"
    if option is None:
        raise ModelError(
            where, f"{shown(name)} cannot be pruned",
            "Leave it out; unetpp is a network that can",
        )  # fmt: skip
    options = {**manifest.network, option: depth}
    try:
        weights = load_safetensors(bundle.weights)
        numbers = sum(each.numel() for each in weights.values())
        with torch.device("meta"), built_within(len(weights), numbers):
            network = create_model(
                name,
                in_channels=manifest.preprocessing.channels,
                num_classes=manifest.num_classes,
                **network_options(name, options),
            )
    except MedsegError as error:
        raise ModelError(where, shown(error.found), "Give a depth that is there") from error
    except Exception as error:  # a network that is given nonsense as options may raise anything
        raise ModelError(
            source, f"its network cannot be built ({shown(error, 500)})", "Copy or train it again"
        ) from error
    names = list(network.state_dict())
    missing = [each for each in names if each not in weights]
    if missing:
        raise ModelError(
            where,
            f"the model has no weights for {shown(missing[0])}",
            "Only a network that was trained with a head at this depth can be pruned to it",
        )
    kept = save_safetensors({each: weights[each] for each in names})
    changed = {
        "network": options,
        "parameters": sum(each.numel() for each in network.parameters()),
        "weights_sha256": hashlib.sha256(kept).hexdigest(),
        "graph_sha256": None,
        "golden": (),
        "scores": {},
        "temperature": 1.0,
    }
    return Bundle(manifest.model_copy(update=changed), kept)
