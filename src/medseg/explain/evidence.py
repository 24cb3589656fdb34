"""Where a network's evidence for a target lies: four ways to ask.

All return a signed map: positive where the image speaks for the target, negative against it. Maps
of class activations are as coarse as the layer they come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.errors import MedsegError, nearest
from medseg.explain.layers import output_of
from medseg.explain.slice_view import SliceView
from medseg.explain.target import Target

Method = Literal["seg-grad-cam", "grad-cam++", "integrated-gradients", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)
STEPS: dict[Method, int] = {"integrated-gradients": 32, "occlusion": 12}
"""Methods that work in steps, with how many by default: points on the path from the baseline to
the image, or patches along a side."""


@dataclass(frozen=True)
class Evidence:
    """A signed map.

    Attributes:
        values: (h, w) float32, of any size; it covers the whole image.
        completeness: of integrated gradients, by what share of the change in the target's logit
            the map's sum misses it; None for other methods.
    """

    values: NDArray[np.float32]
    completeness: float | None = None


def check_method(method: str) -> Method:
    """``method`` if there is such a method.

    Raises:
        MedsegError: there is none of that name.
    """
    for known in METHODS:
        if known == method:
            return known
    raise MedsegError(f"--method {method}", "there is no such method", nearest(method, METHODS))


def find_evidence(
    network: nn.Module,
    image: Tensor,
    target: Target,
    *,
    method: Method,
    layer: str | None,
    steps: int | None,
    batch_size: int = 1,
) -> Evidence:
    """The evidence for ``target`` in ``image`` (1, C, H, W); ``layer`` is for the CAM methods,
    ``steps`` for the others."""
    with torch.enable_grad():
        if layer is not None:
            cam = seg_grad_cam if method == "seg-grad-cam" else grad_cam_plus_plus
            return Evidence(_numpy(cam(network, image, target, layer)))
        assert steps is not None
        if method == "occlusion":
            return Evidence(_numpy(occlusion(network, image, target, steps, batch_size)))
        values, completeness = integrated_gradients(network, image, target, steps, batch_size)
        return Evidence(_numpy(values), completeness)


def seg_grad_cam(network: nn.Module, image: Tensor, target: Target, layer: str) -> Tensor:
    """Seg-Grad-CAM: the layer's channels, weighted by the mean gradient of the target's logit.

    Vinogradova, Dibrov, Myers (2020), "Towards Interpretable Semantic Segmentation via
    Gradient-weighted Class Activation Mapping", AAAI, arXiv 2002.11434. What they cut off below 0
    is kept here, and cut off when the map is shown.
    """
    maps, gradient = _map_and_gradient(network, image, target, layer)
    weights = gradient.flatten(1).mean(1)
    return _weighted(maps, weights, network)


def grad_cam_plus_plus(network: nn.Module, image: Tensor, target: Target, layer: str) -> Tensor:
    """Grad-CAM++ for the same target: positive gradients, weighted by how much each explains.

    Chattopadhay, Sarkar, Howlader, Balasubramanian (2018), "Grad-CAM++: Generalized
    Gradient-based Visual Explanations for Deep Convolutional Networks", WACV, arXiv 1710.11063,
    equations 10 and 19: with g the gradient and A the map, a = g^2 / (2 g^2 + sum(A) g^3). The
    paper's maps come after a ReLU, and the positive part of others is taken: a channel that is
    negative everywhere would otherwise get the highest weight.
    """
    maps, gradient = _map_and_gradient(network, image, target, layer)
    # Dividing by g^2, where g > 0, spares the cubes, which overflow or vanish in float32.
    positive = gradient.clamp_min(0)
    maps = maps.clamp_min(0)
    total = maps.flatten(1).sum(1, keepdim=True)
    positive = positive.flatten(1)
    weights = (positive / (2 + total * positive)).sum(1)
    return _weighted(maps, weights, network)


def _weighted(maps: Tensor, weights: Tensor, network: nn.Module) -> Tensor:
    """The sum of maps (C, h, w) by ``weights`` (C,); of maps (C, d, h, w) of a volume, in the slice
    that is looked at."""
    if maps.ndim == 4:
        assert isinstance(network, SliceView)
        maps = maps[:, network.place(maps.shape[1])]
    return (weights[:, None, None] * maps).sum(0)


def _map_and_gradient(
    network: nn.Module, image: Tensor, target: Target, layer: str
) -> tuple[Tensor, Tensor]:
    """A layer's map (C, h, w), or (C, d, h, w) of a volume, and the gradient of the target's logit
    by it."""
    with output_of(network, layer) as seen:
        score = target.logit(network(image.detach().requires_grad_()).float())
    (gradient,) = torch.autograd.grad(score.sum(), seen[0], allow_unused=True)
    maps = seen[0].detach()[0].float()
    # What the logits do not depend on has no influence on them.
    return maps, torch.zeros_like(maps) if gradient is None else gradient[0].float()


def integrated_gradients(
    network: nn.Module, image: Tensor, target: Target, steps: int, batch_size: int = 1
) -> tuple[Tensor, float]:
    """Gradients along the straight path from the training images' mean colour to the image.

    Sundararajan, Taly, Yan (2017), "Axiomatic Attribution for Deep Networks", ICML,
    arXiv 1703.01365. Midpoint rule; channels are summed.

    Returns:
        (H, W) shares of the change in the target's logit; and by what share of that change their
        sum misses it (NaN where nothing changes).
    """
    # Images are normalised, so that the mean colour is 0.
    total = torch.zeros_like(image)
    shares = (torch.arange(steps, device=image.device) + 0.5) / steps
    for some in torch.split(shares, batch_size):
        points = (some[:, None, None, None] * image).detach().requires_grad_()
        score = target.logit(network(points).float()).sum()
        total += torch.autograd.grad(score, points)[0].sum(0, keepdim=True)
    values = (image * total / steps).sum(1)[0]
    with torch.no_grad():
        change = float(
            target.logit(network(image).float()) - target.logit(network(0 * image).float())
        )
    missed = abs(float(values.double().sum()) - change) / abs(change) if change else float("nan")
    return values, missed


@torch.no_grad()
def occlusion(
    network: nn.Module, image: Tensor, target: Target, steps: int, batch_size: int = 1
) -> Tensor:
    """How much the target's logit falls when a square of the training images' mean colour hides
    a place.

    Zeiler, Fergus (2014), "Visualizing and Understanding Convolutional Networks", ECCV,
    arXiv 1311.2901. Squares are twice as wide as their distance, so that each place is hidden
    four times.

    Returns:
        (steps, steps) falls.
    """
    whole = target.logit(network(image).float())
    rows, columns = (
        [
            (max(0, round((i - 0.5) * size / steps)), min(size, round((i + 1.5) * size / steps)))
            for i in range(steps)
        ]
        for size in image.shape[-2:]
    )
    places = list(product(rows, columns))
    falls = []
    for start in range(0, len(places), batch_size):
        some = places[start : start + batch_size]
        hidden = image.repeat(len(some), 1, 1, 1)
        for each, ((top, bottom), (left, right)) in zip(hidden, some, strict=True):
            each[:, top:bottom, left:right] = 0
        falls.append(whole - target.logit(network(hidden).float()))
    return torch.cat(falls).reshape(steps, steps)


def resized(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """A map (h, w) on another grid, bilinear, without aliasing when it is made smaller."""
    grid = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    out: NDArray[np.float32] = F.interpolate(
        grid, size=size, mode="bilinear", align_corners=False, antialias=True
    )[0, 0].numpy()
    return out


def shown(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The positive part of a signed map, scaled to 0..1; all 0 where nothing is positive."""
    positive = np.maximum(values, 0)
    highest = positive.max()
    if not np.isfinite(highest) or highest <= 0:
        return np.zeros_like(positive)
    out: NDArray[np.float32] = positive / highest
    return out


def _numpy(values: Tensor) -> NDArray[np.float32]:
    out: NDArray[np.float32] = values.detach().float().cpu().numpy()
    return out
