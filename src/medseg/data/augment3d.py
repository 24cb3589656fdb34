"""Random changes to training patches of volumes, batched, on the device that trains.

As for images (:mod:`medseg.data.augment`): all of a patch's randomness comes from its key, and no
operation rounds differently when the batch, the position in it or the number of threads changes.
What differs is that values have no limits but a mean of about 0 and a deviation of about 1, and
that a volume has three axes and voxels that need not be cubes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from medseg.data.augment import Probability, Range, apply_gamma, gaussian_blur
from medseg.data.case import IGNORE
from medseg.data.chance import Chance
from medseg.data.volumes.resample import ANISOTROPIC, Triple

Axis = Literal["slices", "rows", "columns"]
AXES: tuple[Axis, ...] = ("slices", "rows", "columns")

# Sums of values rounded to this step are exact in whatever order they are added.
_FINE = 4096


class Augment3dSettings(BaseModel):
    """What may happen to a training patch of a volume, how strongly and how often.

    A probability or a strength of zero switches a part off, and leaves what the other parts draw
    as it was. Ranges are switched off by their probability. Intensities are in units of the
    volume's standard deviation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    enabled: bool = True
    """False leaves every patch as it is."""

    flip: Literal["auto"] | tuple[Axis, ...] = "auto"
    """Axes along which patches are mirrored, of slices, rows and columns; auto takes all three, but
    not from left to right where names of classes tell left from right."""
    flip_prob: Probability = 0.5
    """For each of these axes by itself."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 20.0
    """Largest rotation about each axis, in degrees, either way; only within slices where these are
    more than three times as far apart as pixels, or the spacing is not known."""
    rotate_prob: Probability = 0.3
    scale: Range = (0.75, 1.25)
    """Smallest and largest magnification."""
    scale_prob: Probability = 0.3

    brightness: Annotated[float, Field(ge=0)] = 0.3
    """Largest value added or taken away."""
    brightness_prob: Probability = 0.15
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Largest relative change of the distance to the patch's mean."""
    contrast_prob: Probability = 0.15
    gamma: Range = (0.7, 1.5)
    """Smallest and largest exponent, between the patch's smallest and largest value."""
    gamma_prob: Probability = 0.3
    blur: Range = (0.5, 1.0)
    """Smallest and largest standard deviation of the Gaussian blur, in voxels."""
    blur_prob: Probability = 0.1
    noise: Annotated[float, Field(ge=0)] = 0.3
    """Largest standard deviation of the added Gaussian noise."""
    noise_prob: Probability = 0.1

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        for name in ("scale", "gamma", "blur"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:
                raise ValueError(f"{name}: want 0 < smallest <= largest, found {low} and {high}")
        return self

    @property
    def flipped(self) -> tuple[int, ...]:
        """The axes of ``flip`` as numbers, in settings in which nothing is ``auto`` any more."""
        assert self.flip != "auto"
        return tuple(sorted({AXES.index(axis) for axis in self.flip}))


@dataclass(frozen=True)
class Draw3d:
    """What was drawn for one patch; the defaults change nothing.

    ``flips`` and ``angles`` (degrees) are of and about the axes of slices, rows and columns;
    ``seed`` drives the noise.
    """

    flips: tuple[bool, bool, bool] = (False, False, False)
    angles: Triple = (0.0, 0.0, 0.0)
    scale: float = 1.0
    brightness: float = 0.0
    contrast: float = 1.0
    gamma: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    seed: int = 0

    @property
    def resamples(self) -> bool:
        """Whether voxels land between voxels, so that flipping is not enough."""
        return any(self.angles) or self.scale != 1


def draw(settings: Augment3dSettings, key: Sequence[int], *, flat: int | None = None) -> Draw3d:
    """Draw one patch's changes from its key (non-negative integers).

    Args:
        settings: with no ``auto`` left.
        key: the whole randomness.
        flat: the axis of slices that are too far apart to rotate out of, or None.
    """
    chance, s = Chance(key), settings
    flips = [chance.between(s.flip_prob, 1, 1, 0) > 0 and axis in s.flipped for axis in range(3)]
    angles = [chance.around(0, s.rotate_prob, s.rotate) for _ in range(3)]
    angles = [angle if flat in (None, axis) else 0.0 for axis, angle in enumerate(angles)]
    return Draw3d(
        flips=(flips[0], flips[1], flips[2]),
        angles=(angles[0], angles[1], angles[2]),
        # Logarithmic, so that half the size is as likely as twice.
        scale=math.exp(chance.between(s.scale_prob, math.log(s.scale[0]), math.log(s.scale[1]), 0)),
        brightness=chance.around(0, s.brightness_prob, s.brightness),
        contrast=chance.around(1, s.contrast_prob, s.contrast),
        gamma=math.exp(chance.between(s.gamma_prob, math.log(s.gamma[0]), math.log(s.gamma[1]), 0)),
        blur=chance.between(s.blur_prob, s.blur[0], s.blur[1], 0),
        noise=chance.between(s.noise_prob, 0, s.noise, 0),
        seed=chance.seed(),
    )


class Augment3d:
    """Change a batch of patches and masks at random, each patch by its own key.

    Args:
        settings: with no ``auto`` left.
        spacing: mm between slices, rows and columns, so that a rotated ball stays one; None where
            it is not known.
    """

    def __init__(self, settings: Augment3dSettings, spacing: Triple | None) -> None:
        self.settings = settings
        self.spacing = spacing or (1.0, 1.0, 1.0)
        coarsest = max(range(3), key=lambda axis: self.spacing[axis])
        isotropic = self.spacing[coarsest] <= ANISOTROPIC * min(self.spacing)
        self.flat = 0 if spacing is None else None if isotropic else coarsest

    @torch.no_grad()
    def __call__(
        self, image: Tensor, mask: Tensor, keys: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch.

        Args:
            image: (B, C, D, H, W) float32, normalised.
            mask: (B, D, H, W) uint8 class indices, on the same device.
            keys: one tuple of non-negative integers per patch, such as (seed, epoch, position),
                all of one length. It is the whole randomness of that patch.

        Returns:
            Image and mask of the same shapes and types; the inputs are left as they were. What
            comes from outside a patch is 0, and ``IGNORE`` in the mask.

        Raises:
            ValueError: image, mask and keys do not describe the same batch.
        """
        if image.ndim != 5 or mask.shape != image.shape[:1] + image.shape[2:]:
            raise ValueError(
                f"want image (B, C, D, H, W) and mask (B, D, H, W), "
                f"found {tuple(image.shape)} and {tuple(mask.shape)}"
            )
        if len(keys) != len(image):
            raise ValueError(f"want a key per patch, found {len(keys)} for {len(image)}")
        if not self.settings.enabled:
            return image, mask
        draws = [draw(self.settings, key, flat=self.flat) for key in keys]
        return apply(image, mask, draws, self.spacing)


def apply(
    image: Tensor, mask: Tensor, draws: Sequence[Draw3d], spacing: Triple
) -> tuple[Tensor, Tensor]:
    """Carry out ``draws`` on (B, C, D, H, W) and (B, D, H, W) -> the same, new tensors."""
    image, mask = _move(image, mask, draws, spacing)
    for sample, changes in zip(image, draws, strict=True):
        _recolour(sample, changes)
    return image, mask


def _move(
    image: Tensor, mask: Tensor, draws: Sequence[Draw3d], spacing: Triple
) -> tuple[Tensor, Tensor]:
    """Flip, rotate and scale, with at most one interpolation."""
    moved_image, moved_mask = torch.empty_like(image), torch.empty_like(mask)
    between = [index for index, changes in enumerate(draws) if changes.resamples]
    for index, changes in enumerate(draws):
        if not changes.resamples:
            axes = [axis - 3 for axis in range(3) if changes.flips[axis]]
            moved_image[index] = image[index].flip(axes) if axes else image[index]
            moved_mask[index] = mask[index].flip(axes) if axes else mask[index]
    if between:
        shape = tuple(mask.shape[-3:])
        grids = [_sampling_grid(draws[index], shape, spacing) for index in between]
        grid = torch.from_numpy(np.stack(grids)).to(image.device)  # (N, D, H, W, 3)
        moved_image[between] = F.grid_sample(image[between], grid, align_corners=False)
        # Shifted by one, so that the zeros from outside can be told from background.
        labels = (mask[between].to(torch.int16) + 1).unsqueeze(1).to(grid.dtype)
        labels = F.grid_sample(labels, grid, mode="nearest", align_corners=False).squeeze(1)
        moved_mask[between] = torch.where(labels > 0, labels - 1, IGNORE).to(mask.dtype)
    return moved_image, moved_mask


def _sampling_grid(changes: Draw3d, shape: tuple[int, ...], spacing: Triple) -> NDArray[np.float32]:
    """Where each output voxel is read, (D, H, W, 3) as (x, y, z) in ``grid_sample``'s [-1, 1]."""
    rotation = np.eye(3)
    for axis, angle in enumerate(changes.angles):
        rotation = rotation @ _rotation(axis, angle)
    mm = np.array(spacing)
    flips = np.where(changes.flips, -1.0, 1.0)
    # From voxels of the patch to mm, turned, and back to voxels of the source.
    matrix = flips[:, None] * (rotation / mm[:, None] * mm) / changes.scale
    # grid_sample's unit is half the patch's size.
    matrix *= 2 / np.array(shape)[:, None]
    # An affine map is a sum of a term for each axis; in float64 until here.
    centred = [np.arange(length) - (length - 1) / 2 for length in shape]
    grid = np.empty((*shape, 3), np.float32)
    for target in range(3):
        terms = [(matrix[target, axis] * centred[axis]) for axis in range(3)]
        grid[..., 2 - target] = (
            terms[0][:, None, None] + terms[1][None, :, None] + terms[2][None, None, :]
        )
    return grid


def _rotation(axis: int, degrees: float) -> NDArray[np.float64]:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    one, other = (each for each in range(3) if each != axis)
    matrix = np.eye(3)
    matrix[one, one] = matrix[other, other] = cosine
    matrix[one, other], matrix[other, one] = -sine, sine
    return matrix


def _recolour(image: Tensor, changes: Draw3d) -> None:
    """Blur one patch (C, D, H, W), change its tones and add noise, in place."""
    if changes.blur > 0:
        image.copy_(gaussian_blur(image, changes.blur, (-1, -2, -3)))
    for channel in image:
        if changes.brightness != 0 or changes.contrast != 1:
            offset = _mean(channel) * (1 - changes.contrast) + changes.brightness
            channel.mul_(changes.contrast).add_(offset)
        if changes.gamma != 1:
            low, high = channel.min(), channel.max()
            span = (high - low).clamp_min(torch.finfo(channel.dtype).tiny)
            shares = ((channel - low) / span).clamp_(0, 1)
            channel.copy_(apply_gamma(shares, changes.gamma) * span + low)
    if changes.noise > 0:
        generator = torch.Generator(image.device).manual_seed(changes.seed)
        noise = torch.randn(image.shape, generator=generator, device=image.device)
        image.add_(noise.mul_(changes.noise))


def _mean(values: Tensor) -> Tensor:
    """The mean to within 1/8192, the same in whatever order values are added."""
    whole = (values * _FINE).round_().to(torch.int64)
    return whole.sum().to(values.dtype) / (_FINE * values.numel())
