"""How far an explanation can be trusted: numbers for a map.

* Deletion and insertion (Petsiuk, Das, Saenko 2018, "RISE", arXiv 1806.07421): pixels are taken
  away, or given to a blurred image, in the order of the map; the score is the area under the
  target's probability, 0 to 1. Good maps have a low deletion and a high insertion. What is taken
  away becomes the training images' mean colour. Numbers mean little by themselves, so both are
  also computed for the same map with its cells shuffled.
* Pointing game (Zhang et al. 2018, arXiv 1608.00507): whether the map's highest pixel lies inside
  the region; and the share of the map's energy there (Wang et al. 2020, arXiv 1910.01279). An even
  map would have the region's share of the image.
* Randomisation check (Adebayo et al. 2018, "Sanity Checks for Saliency Maps", arXiv 1810.03292):
  a map that hardly changes when the network's weights are re-initialised shows the image and not
  what the network has learnt.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage, stats
from torch import Tensor, nn

from medseg.explain.evidence import resized
from medseg.explain.target import Target

STEPS = 20
"""In which the pixels are taken away or given."""

BLUR = 1 / 20
"""Standard deviation of the insertion's blur, as a share of the image's side."""

CONTROLS = 3
"""Shuffled maps that make the baseline."""

MOST_ALIKE = 0.5
"""Above this rank correlation with the map of a re-initialised network, a map fails."""


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """Areas under the target's probability, 0 to 1, of the map and of shuffled ones (mean)."""

    deletion: float
    insertion: float
    shuffled_deletion: float
    shuffled_insertion: float


@dataclass(frozen=True, slots=True)
class Pointing:
    """How a map agrees with a region; NaN where map or region are empty.

    Attributes:
        energy: share of the map's sum inside the region.
        hit: 1 when the map's highest pixel lies inside, else 0.
        area: the region's share of the image, which an even map's energy would be.
    """

    energy: float
    hit: float
    area: float


@torch.no_grad()
def faithfulness(
    network: nn.Module,
    image: Tensor,
    target: Target,
    values: NDArray[np.float32],
    *,
    seed: int = 0,
    batch_size: int = 1,
) -> Faithfulness:
    """Deletion and insertion of a signed map, and of its shuffled copies.

    Args:
        network: in evaluation mode.
        image: (1, C, H, W), normalised.
        target: what the probability is of.
        values: (h, w) evidence, on any grid.
        seed: of the shuffling.
        batch_size: images per forward pass.
    """
    size = (image.shape[-2], image.shape[-1])
    sigma = (0, 0, BLUR * size[0], BLUR * size[1])
    blurred = torch.from_numpy(ndimage.gaussian_filter(image.cpu().numpy(), sigma)).to(image)

    random = np.random.default_rng(seed)

    def areas(values: NDArray[np.float32]) -> tuple[float, float]:
        rank = _ranks(resized(values, size), random).to(image.device)
        return (
            _area(network, target, rank, image, torch.zeros_like(image), batch_size),
            _area(network, target, rank, blurred, image, batch_size),
        )

    controls = [
        areas(random.permutation(values.ravel()).reshape(values.shape)) for _ in range(CONTROLS)
    ]
    deletions, insertions = zip(*controls, strict=True)
    deletion, insertion = areas(values)
    return Faithfulness(
        deletion, insertion, math.fsum(deletions) / CONTROLS, math.fsum(insertions) / CONTROLS
    )


def _ranks(values: NDArray[np.float32], random: np.random.Generator) -> Tensor:
    """0 for the highest pixel, 1 for the next ...; equal ones in any order; (H, W)."""
    order = np.lexsort((random.random(values.size), -values.ravel()))
    ranks = np.empty(values.size, np.int64)
    ranks[order] = np.arange(values.size)
    return torch.from_numpy(ranks.reshape(values.shape))


def _area(
    network: nn.Module,
    target: Target,
    rank: Tensor,
    before: Tensor,
    after: Tensor,
    batch_size: int,
) -> float:
    """Area under the probability while pixels turn from ``before`` to ``after`` by rank."""
    counts = torch.linspace(0, rank.numel(), STEPS + 1, device=rank.device).round()
    values = [
        target.probability(
            network(torch.where(rank < some[:, None, None, None], after, before)).float()
        ).cpu()
        for some in torch.split(counts, batch_size)
    ]
    curve = torch.cat(values).double()
    return float((curve[1:] + curve[:-1]).mean() / 2)


def pointing(shown: NDArray[np.float32], region: NDArray[np.bool_]) -> Pointing:
    """The pointing game of a map of 0..1 against a region of the same shape."""
    area = float(region.mean())
    total = float(shown.sum(dtype=np.float64))
    if not total or not region.any():
        return Pointing(math.nan, math.nan, area)
    energy = float(shown[region].sum(dtype=np.float64)) / total
    return Pointing(energy, float(region.flat[shown.argmax()]), area)


def reinitialised(network: nn.Module, image: Tensor, seed: int) -> nn.Module:
    """A copy of a network that has learnt nothing.

    The values of every parameter change places at random, which works for any kind of layer and
    keeps its scale. Running statistics of normalisation layers are measured again on the image and
    its flips, or activations would vanish or explode.

    Args:
        network: left as it is.
        image: (1, C, H, W).
        seed: of the shuffling.
    """
    fresh = copy.deepcopy(network)
    random = torch.Generator().manual_seed(seed)
    normalisations = [
        module
        for module in fresh.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    with torch.no_grad():
        for parameter in fresh.parameters():
            order = torch.randperm(parameter.numel(), generator=random).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].reshape(parameter.shape))
        momenta = [module.momentum for module in normalisations]
        for module in normalisations:
            module.train()
            module.momentum = 1.0
        flips = [image.flip(axes) for axes in ((), (-1,), (-2,), (-1, -2))]
        fresh(torch.cat(flips))
        for module, momentum in zip(normalisations, momenta, strict=True):
            module.eval()
            module.momentum = momentum
    return fresh


def rank_correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Spearman's, -1 to 1; NaN when ``one`` is the same everywhere, 0 when only ``other`` is."""
    if one.max() == one.min():
        return math.nan
    if other.max() == other.min():
        return 0.0
    return float(stats.spearmanr(one, other, axis=None).statistic)


def structural_similarity(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """SSIM of two maps of 0..1, -1 to 1 (Wang et al. 2004, doi 10.1109/TIP.2003.819861).

    Gaussian windows of standard deviation 1.5 cells; K1 = 0.01, K2 = 0.03.
    """

    def blur(values: NDArray[np.float64]) -> NDArray[np.float64]:
        out: NDArray[np.float64] = ndimage.gaussian_filter(values, 1.5, truncate=3.5)
        return out

    x, y = one.astype(np.float64), other.astype(np.float64)
    mean_x, mean_y = blur(x), blur(y)
    spread_x, spread_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    shared = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * shared + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (spread_x + spread_y + c2)
    )
    return float(similarity.mean())
