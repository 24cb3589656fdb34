"""Starting from another model's weights: what fits is carried over, the rest begins anew."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from medseg.errors import DataError, ModelError, plural
from medseg.inference.bundle import SUFFIX, Manifest, find_bundle, read_bundle, shown
from medseg.models import create_model
from medseg.recipe import Recipe, apply_settings

if TYPE_CHECKING:
    from medseg.engine.prepare import Material

_MOST_NAMES = 6

# Names like "head.bias" are alike in any two networks.
_LEAST = 0.01


@dataclass(frozen=True)
class Origin:
    """The model that a training starts from.

    Attributes:
        name: as the recipe has it.
        manifest: what it says of itself.
        weights: by name.
    """

    name: str
    manifest: Manifest
    weights: Mapping[str, Tensor]

    @property
    def inherited(self) -> dict[str, Any]:
        """What a model that starts from it must remember: whom to name, also of the model that this
        one started from, and the images that it has seen through it."""
        data = self.manifest.data
        before = data.get("init")
        earlier = before.get("attribution", "") if isinstance(before, dict) else ""
        return {
            "model": self.name,
            "weights_sha256": self.manifest.weights_sha256,
            "licence": self.manifest.licence,
            "attribution": " ".join(filter(None, (str(data.get("attribution", "")), str(earlier)))),
            "seen": list(data.get("seen", ())),
        }


@dataclass(frozen=True)
class Carried:
    """What became of each tensor of the new network.

    Attributes:
        whole: carried over as it was.
        adapted: a first convolution, made for another number of channels.
        fresh: not in the origin, of another shape, or of other classes: as initialised.
        numbers: carried over, of ``total``.
        total: numbers in the network's weights and buffers.
    """

    whole: tuple[str, ...]
    adapted: tuple[str, ...]
    fresh: tuple[str, ...]
    numbers: int
    total: int

    def __str__(self) -> str:
        text = f"{self.numbers:,} of {self.total:,} numbers carried over"
        if self.adapted:
            text += f", {_some(self.adapted)} from other channels"
        return f"{text}; new: {_some(self.fresh)}" if self.fresh else text


def load_origin(init: str, sha256: str = "") -> Origin:
    """The model called ``init``: a run folder, a bundle or the name of one that comes with medseg.

    Args:
        init: likewise.
        sha256: of its weights, when it was first read; empty where that is now.

    Raises:
        ModelError: it cannot be read, holds no weights to go on with, or has changed.
    """
    path = find_bundle(Path(init))
    if path.is_file() and path.suffix.lower() != SUFFIX:
        raise ModelError(
            f"--init {init}", "it is no model that can be trained further",
            "Name a run, a .medseg file or a model of `medseg models list`",
        )  # fmt: skip
    bundle = read_bundle(path)
    if sha256 and bundle.manifest.weights_sha256 != sha256:
        raise ModelError(
            f"--init {init}", "its weights are not those that the run began from",
            "Put the model back that was there, or start a new run",
        )  # fmt: skip
    try:
        weights = load_safetensors(bundle.weights)
    except Exception as error:  # safetensors raises kinds of its own
        raise ModelError(
            path, f"its weights cannot be read ({shown(error)})", "Copy it again"
        ) from error
    return Origin(init, bundle.manifest, weights)


def with_origin(values: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """A recipe's ``values`` with the network of the model that training is to start from, where
    neither they nor the ``settings`` name another system, and with the hash of its weights.

    Args:
        values: by dotted key.
        settings: as text, ``"a.b=c"``.

    Raises:
        ModelError: as of :func:`load_origin`.
        RecipeError: a setting that is none.
    """
    text = apply_settings({}, settings)
    init = text.get("init", values.get("init"))
    if not init:
        return dict(values)
    manifest = load_origin(str(init)).manifest
    system = text.get("system", values.get("system", manifest.system))
    options = manifest.network if system == manifest.system else {}
    return {
        **{f"network.{name}": value for name, value in options.items()},
        **values,
        "init": str(init),
        "init_sha256": manifest.weights_sha256,
        "system": system,
    }


def find_origin(
    recipe: Recipe, folder: Path, *, resume: bool
) -> tuple[Origin | None, Mapping[str, Any]]:
    """The model that a run starts from, and what the run inherits of it.

    A run that goes on from a checkpoint needs the former no more, and knows the latter from its
    ``data.json``.

    Args:
        recipe: of the run.
        folder: likewise.
        resume: whether it has begun before.

    Raises:
        ModelError: as of :func:`load_origin`, or the run's memory is damaged.
    """
    if not recipe.init:
        return None, {}
    memory = folder / "data.json"
    if resume and memory.is_file() and (folder / "checkpoints" / "last.safetensors").is_file():
        try:
            inherited = dict(json.loads(memory.read_text(encoding="utf-8"))["init"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                memory, f"it is damaged ({error!r})", "Restore it, or start a new run"
            ) from error
        return None, inherited
    origin = load_origin(recipe.init, recipe.init_sha256)
    return origin, origin.inherited


def with_inheritance(material: Material, inherited: Mapping[str, Any], *, allow: bool) -> Material:
    """The material, knowing what the model that training starts from has seen.

    Args:
        material: as prepared.
        inherited: of that model; empty: there is none.
        allow: let it have seen images of the test part; every report then says so.

    Raises:
        DataError: it has, and may not.
    """
    if not inherited:
        return material
    found = replace(material, inherited=inherited)
    if found.tested_before and not allow:
        raise DataError(
            f"--init {inherited['model']}",
            f"it was trained or chosen on {plural(found.tested_before, 'image')} of the test part, "
            "so scores would be too good",
            "Split the data as it was split for that model (--split, --seed), start from another, "
            "or use --allow-leak: every report then says so",
        )
    return found


def carry_over(
    network: nn.Module,
    origin: Origin,
    *,
    system: str,
    options: Mapping[str, Any],
    in_channels: int,
    num_classes: int,
    classes: tuple[str, ...],
) -> Carried:
    """Put the weights of ``origin`` into ``network``, in place.

    Tensors of one name and shape are carried over. A convolution on the image is made for another
    number of channels: each gets the mean of the old ones, so scaled that an image whose channels
    are all alike is answered as before. The layers that depend on the classes begin anew where
    there are others; a single foreground class takes the place of any other.

    Args:
        network: as initialised.
        origin: to start from.
        system: of ``network``.
        options: likewise.
        in_channels: likewise.
        num_classes: likewise.
        classes: names, background first.

    Raises:
        ModelError: less than a hundredth fits.
    """
    before = tuple(label.name for label in origin.manifest.labels)
    # What is pointed at is one structure, whatever the classes it was shown.
    known = 1 if origin.manifest.prompts else origin.manifest.num_classes
    others = known != num_classes or (num_classes > 1 and before != classes)
    heads = _heads(network, system, options, in_channels, num_classes) if others else frozenset()
    channels = origin.manifest.preprocessing.channels
    state = network.state_dict()
    whole, adapted, fresh = [], [], []
    numbers = 0
    for name, ours in state.items():
        theirs = origin.weights.get(name)
        if theirs is None or name in heads:
            fresh.append(name)
            continue
        # What a module stores besides tensors, a vocabulary say, is of any length.
        if theirs.shape == ours.shape or name.endswith("._extra_state"):
            whole.append(name)
        elif _differs_by_channels(theirs, ours, channels, in_channels):
            theirs = with_channels(theirs, in_channels)
            adapted.append(name)
        else:
            fresh.append(name)
            continue
        state[name] = theirs.to(ours.dtype)
        numbers += ours.numel()
    total = sum(each.numel() for each in state.values())
    if numbers < _LEAST * total:
        raise ModelError(
            f"--init {origin.name}",
            f"its weights ({shown(origin.manifest.system)}) do not fit {system}: {numbers:,} of "
            f"{total:,} numbers have a place",
            "Leave --system and network options out, or name a model of that system",
        )
    network.load_state_dict(state)
    return Carried(tuple(whole), tuple(adapted), tuple(fresh), numbers, total)


def with_channels(kernel: Tensor, channels: int) -> Tensor:
    """``(O, C, ...)`` to ``(O, channels, ...)``: the mean over C, so scaled that the sum stays."""
    mean = kernel.float().mean(dim=1, keepdim=True) * (kernel.shape[1] / channels)
    return mean.expand(-1, channels, *kernel.shape[2:]).clone()


def _differs_by_channels(theirs: Tensor, ours: Tensor, before: int, after: int) -> bool:
    return (
        theirs.ndim == ours.ndim > 2
        and (theirs.shape[1], ours.shape[1]) == (before, after)
        and theirs.shape[:1] + theirs.shape[2:] == ours.shape[:1] + ours.shape[2:]
    )


def _heads(
    network: nn.Module,
    system: str,
    options: Mapping[str, Any],
    in_channels: int,
    num_classes: int,
) -> frozenset[str]:
    """Names of the tensors whose shape depends on the number of classes."""
    with torch.random.fork_rng(devices=()):
        other = create_model(
            system, in_channels=in_channels, num_classes=num_classes + 1, **options
        ).state_dict()
    return frozenset(
        name
        for name, tensor in network.state_dict().items()
        if name not in other or other[name].shape != tensor.shape
    )


def _some(names: tuple[str, ...]) -> str:
    if len(names) <= _MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:_MOST_NAMES])} and {plural(len(names) - _MOST_NAMES, 'tensor')} more"
