"""Where to listen to a network: the maps that its encoder and its decoder make at each scale.

Any U-shaped network can be tapped. A probe tells in which order its modules work and at which
scale; on the way down to the coarsest scale a level of the encoder ends before the next coarser
map, on the way up a level of the decoder before the next finer one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medseg.nn.dims import Dims


@dataclass(frozen=True, slots=True)
class Tap:
    """A module whose output is listened to.

    Attributes:
        name: of the module, as ``network.get_submodule`` takes it.
        channels: of its output.
        stride: sides of the image over those of its output.
    """

    name: str
    channels: int
    stride: int


def spatial_dims(network: nn.Module) -> Dims:
    """2 for a network of images, 3 for one of volumes, by its convolutions.

    Raises:
        ValueError: it has none.
    """
    kinds = {type(module) for module in network.modules()}
    if any(issubclass(kind, nn.Conv3d) for kind in kinds):
        return 3
    if any(issubclass(kind, nn.Conv2d) for kind in kinds):
        return 2
    raise ValueError("the network has no convolutions, so its levels cannot be told")


@dataclass(frozen=True, slots=True)
class Levels:
    """The levels of a U-shaped network.

    Attributes:
        encoder: from fine to coarse, without the coarsest.
        decoder: from the coarsest, in which it begins, to the last before full size.
        classes: channels of the logits.
    """

    encoder: tuple[Tap, ...]
    decoder: tuple[Tap, ...]
    classes: int


@torch.no_grad()
def find_levels(network: nn.Module, channels: int) -> Levels:
    """The levels of ``network``, as a probe of 64 pixels or 32 voxels a side shows them.

    Args:
        network: any, in any mode; it is left as it was.
        channels: of its images.

    Raises:
        ValueError: it is not U-shaped.
    """
    dims = spatial_dims(network)
    seen, classes = _probe(network, torch.zeros(1, channels, *[64 if dims == 2 else 32] * dims))
    deepest = max((tap.stride for tap in seen), default=1)
    turn = next((place for place, tap in enumerate(seen) if tap.stride == deepest), 0)
    down = _last_of_each_scale(seen[:turn], lambda stride, other: other > stride)
    up = _last_of_each_scale(seen[turn:], lambda stride, other: other < stride)
    encoder = sorted(down.values(), key=lambda tap: tap.stride)
    decoder = sorted((t for t in up.values() if t.stride > 1), key=lambda tap: -tap.stride)
    if min(len(encoder), len(decoder)) < 2:
        raise ValueError("the network has fewer than two scales on the way down, or up")
    return Levels(tuple(encoder), tuple(decoder), classes)


def listen(
    network: nn.Module, image: Tensor, taps: Sequence[Tap]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The network's output for ``image``, and by name what the tapped modules made on the way."""
    heard: dict[str, Tensor] = {}

    def remember(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, given: Any, made: Any) -> None:
            heard[name] = made

        return hook

    hooks = [
        network.get_submodule(tap.name).register_forward_hook(remember(tap.name)) for tap in taps
    ]
    try:
        return network(image), heard
    finally:
        for each in hooks:
            each.remove()


def _probe(network: nn.Module, image: Tensor) -> tuple[list[Tap], int]:
    """Modules with one map at a scale of 1/2^i of the image, in the order in which they end; and
    the channels of the logits."""
    ended: list[Tap] = []

    def remember(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, given: Any, made: Any) -> None:
            if not isinstance(made, Tensor) or made.ndim != image.ndim or min(made.shape[2:]) < 2:
                return
            if len(made) != len(image):  # a weight that is computed
                return
            stride = image.shape[2] / made.shape[2]
            scaled = [round(side / stride) for side in image.shape[2:]]
            if stride >= 1 and math.log2(stride).is_integer() and scaled == [*made.shape[2:]]:
                ended.append(Tap(name, made.shape[1], int(stride)))

        return hook

    parameters = next(network.parameters())
    modes = {module: module.training for module in network.modules()}
    hooks = [
        module.register_forward_hook(remember(name))
        for name, module in network.named_modules()
        if name
    ]
    try:
        logits = network.eval()(image.to(parameters))
    finally:
        for each in hooks:
            each.remove()
        for module, mode in modes.items():
            module.training = mode
    # What works several times has no map of its own.
    calls = Counter(tap.name for tap in ended)
    return [tap for tap in ended if calls[tap.name] == 1], logits.shape[1]


def _last_of_each_scale(taps: Sequence[Tap], beyond: Callable[[int, int], bool]) -> dict[int, Tap]:
    """Of each stride a module before the first of a stride ``beyond`` it: of the outermost
    modules the last, because that is where a level ends."""
    last: dict[int, Tap] = {}
    closed: set[int] = set()
    for tap in taps:
        closed |= {stride for stride in last if beyond(stride, tap.stride)}
        before = last.get(tap.stride)
        outer = before is None or tap.name.count(".") <= before.name.count(".")
        if tap.stride not in closed and outer:
            last[tap.stride] = tap
    return last
