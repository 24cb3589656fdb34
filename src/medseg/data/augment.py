"""Random changes to training images, batched, on the device that trains.

All of a sample's randomness comes from its key, and no operation here rounds differently when
the batch, the position in it or the number of threads changes: sums are of integers, and curves
are table look-ups, because a vectorised ``pow`` or a threaded ``mean`` is not so careful. A run
that is resumed, or spread over processes, therefore sees the same pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from medseg.data.chance import Chance

Probability = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]

GAMMA_STEPS = 1024


class AugmentSettings(BaseModel):
    """What may happen to a training image, how strongly and how often.

    A probability or a strength of zero switches a part off, and leaves what the other parts draw
    as it was. Ranges are switched off by their probability.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    enabled: bool = True
    """False leaves every image as it is."""

    flip_horizontal: Probability = 0.5
    """Probability of swapping left and right. Use 0 where labels tell left from right."""
    flip_vertical: Probability = 0.5
    """Probability of swapping top and bottom. Use 0 where up has a meaning (chest X-ray)."""

    rotate: Annotated[float, Field(ge=0, le=180)] = 20.0
    """Largest rotation, in degrees, either way."""
    rotate_prob: Probability = 0.5
    scale: Range = (0.75, 1.25)
    """Smallest and largest magnification."""
    scale_prob: Probability = 0.5
    shift: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Largest shift along each axis, as a fraction of the image's size."""
    shift_prob: Probability = 0.5
    """Probability of a shift, for each axis by itself."""
    elastic: Annotated[float, Field(ge=0)] = 0.0
    """Largest elastic displacement along each axis, in pixels."""
    elastic_smoothness: Annotated[float, Field(ge=2)] = 32.0
    """Distance between the control points of the elastic field, in pixels."""
    elastic_prob: Probability = 0.5

    brightness: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Largest value added or taken away, on the image's scale of 0 to 1."""
    brightness_prob: Probability = 0.5
    contrast: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Largest relative change of the distance to the image's mean."""
    contrast_prob: Probability = 0.5
    saturation: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Largest relative change of the distance to grey. Only for three channels."""
    saturation_prob: Probability = 0.3
    gamma: Range = (0.7, 1.4)
    """Smallest and largest exponent."""
    gamma_prob: Probability = 0.3
    blur: Range = (0.3, 1.2)
    """Smallest and largest standard deviation of the Gaussian blur, in pixels."""
    blur_prob: Probability = 0.1
    noise: Annotated[float, Field(ge=0, le=1)] = 0.03
    """Largest standard deviation of the added Gaussian noise."""
    noise_prob: Probability = 0.1

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        for name in ("scale", "gamma", "blur"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:
                raise ValueError(f"{name}: want 0 < smallest <= largest, found {low} and {high}")
        return self


@dataclass(frozen=True)
class Draw:
    """What was drawn for one sample; the defaults change nothing.

    ``angle`` is in degrees, counter-clockwise as seen; ``shift`` is (x, y) in fractions of width
    and height; ``seed`` drives the fields that are drawn pixel by pixel.
    """

    flip_horizontal: bool = False
    flip_vertical: bool = False
    angle: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    elastic: float = 0.0
    elastic_smoothness: float = 32.0
    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    gamma: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    seed: int = 0

    @property
    def resamples(self) -> bool:
        """Whether pixels land between pixels, so that flipping is not enough."""
        moved = self.shift != (0.0, 0.0) or self.elastic > 0
        return self.angle != 0 or self.scale != 1 or moved


def draw(settings: AugmentSettings, key: Sequence[int]) -> Draw:
    """Draw one sample's changes from its key (non-negative integers)."""
    chance, s = Chance(key), settings
    return Draw(
        flip_horizontal=chance.between(s.flip_horizontal, 1, 1, 0) > 0,
        flip_vertical=chance.between(s.flip_vertical, 1, 1, 0) > 0,
        angle=chance.around(0, s.rotate_prob, s.rotate),
        scale=chance.between(s.scale_prob, s.scale[0], s.scale[1], 1),
        shift=(chance.around(0, s.shift_prob, s.shift), chance.around(0, s.shift_prob, s.shift)),
        elastic=chance.between(s.elastic_prob, 0, s.elastic, 0),
        elastic_smoothness=s.elastic_smoothness,
        brightness=chance.around(0, s.brightness_prob, s.brightness),
        contrast=chance.around(1, s.contrast_prob, s.contrast),
        saturation=chance.around(1, s.saturation_prob, s.saturation),
        # Logarithmic, so that 1/2 is as likely as 2.
        gamma=math.exp(chance.between(s.gamma_prob, math.log(s.gamma[0]), math.log(s.gamma[1]), 0)),
        blur=chance.between(s.blur_prob, s.blur[0], s.blur[1], 0),
        noise=chance.between(s.noise_prob, 0, s.noise, 0),
        seed=chance.seed(),
    )


class Augment:
    """Change a batch of images and masks at random, each sample by its own key."""

    def __init__(self, settings: AugmentSettings) -> None:
        self.settings = settings

    @torch.no_grad()
    def __call__(
        self, image: Tensor, mask: Tensor, keys: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """Augment a batch.

        Args:
            image: (B, C, H, W) float32 in [0, 1].
            mask: (B, H, W) uint8 class indices, on the same device.
            keys: one tuple of non-negative integers per sample, such as (seed, epoch, position),
                all of one length. It is the whole randomness of that sample.

        Returns:
            Image and mask of the same shapes and types; the inputs are left as they were.

        Raises:
            ValueError: image, mask and keys do not describe the same batch.
        """
        if image.ndim != 4 or mask.shape != image.shape[:1] + image.shape[2:]:
            raise ValueError(
                f"want image (B, C, H, W) and mask (B, H, W), "
                f"found {tuple(image.shape)} and {tuple(mask.shape)}"
            )
        if len(keys) != len(image):
            raise ValueError(f"want a key per sample, found {len(keys)} for {len(image)}")
        if not self.settings.enabled:
            return image, mask
        return apply(image, mask, [draw(self.settings, key) for key in keys])


def apply(image: Tensor, mask: Tensor, draws: Sequence[Draw]) -> tuple[Tensor, Tensor]:
    """Carry out ``draws`` on a batch: (B, C, H, W) and (B, H, W) -> the same, new tensors."""
    image, mask = _move(image, mask, draws)
    for sample, changes in zip(image, draws, strict=True):
        _recolour(sample, changes)
    return image, mask


def _move(image: Tensor, mask: Tensor, draws: Sequence[Draw]) -> tuple[Tensor, Tensor]:
    """Flip, rotate, scale, shift and bend, with at most one interpolation.

    Outside the image lies black, which is background in the mask. Reflected or repeated borders
    would show structures, lesions among them, that the mask calls background.
    """
    moved_image, moved_mask = torch.empty_like(image), torch.empty_like(mask)
    between = [index for index, changes in enumerate(draws) if changes.resamples]
    for index, changes in enumerate(draws):
        if not changes.resamples:
            axes = [-1] * changes.flip_horizontal + [-2] * changes.flip_vertical
            moved_image[index] = image[index].flip(axes) if axes else image[index]
            moved_mask[index] = mask[index].flip(axes) if axes else mask[index]
    if between:
        height, width = mask.shape[-2:]
        grid = _sampling_grid([draws[index] for index in between], height, width, image.device)
        sampled = F.grid_sample(image[between], grid, align_corners=False)
        # The four weights of a pixel may add up to slightly more than one.
        moved_image[between] = sampled.clamp_(0, 1)
        labels = mask[between].unsqueeze(1).to(grid.dtype)  # (N, 1, H, W)
        labels = F.grid_sample(labels, grid, mode="nearest", align_corners=False)
        moved_mask[between] = labels.squeeze(1).to(mask.dtype)
    return moved_image, moved_mask


def _sampling_grid(draws: Sequence[Draw], height: int, width: int, device: torch.device) -> Tensor:
    """Where each output pixel is read, (N, H, W, 2) as (x, y) in ``grid_sample``'s [-1, 1]."""
    # An affine map is a term of the column plus a term of the row; both in float64 until here.
    lines = [_affine_terms(changes, height, width) for changes in draws]
    columns = torch.from_numpy(np.stack([column for column, _ in lines])).to(device)  # (N, 2, W)
    rows = torch.from_numpy(np.stack([row for _, row in lines])).to(device)  # (N, 2, H)
    grid = torch.empty(len(draws), height, width, 2, device=device)
    for axis in range(2):
        torch.add(columns[:, axis, None, :], rows[:, axis, :, None], out=grid[..., axis])
    for sample, changes in zip(grid, draws, strict=True):
        if changes.elastic > 0:
            sample += _elastic_field(changes, height, width, device)
    return grid


def _affine_terms(
    changes: Draw, height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The map from output to input as a column term (2, W) and a row term (2, H), for x and y."""
    cosine, sine = math.cos(math.radians(changes.angle)), math.sin(math.radians(changes.angle))
    x = np.arange(width) - (width - 1) / 2 - changes.shift[0] * width
    y = np.arange(height) - (height - 1) / 2 - changes.shift[1] * height
    # Pixels from the centre become grid_sample's unit, half the image's size.
    to_x = (-1 if changes.flip_horizontal else 1) / changes.scale * 2 / width
    to_y = (-1 if changes.flip_vertical else 1) / changes.scale * 2 / height
    column = np.stack([to_x * cosine * x, to_y * sine * x])
    row = np.stack([-to_x * sine * y, to_y * cosine * y])
    return column.astype(np.float32), row.astype(np.float32)


def _elastic_field(changes: Draw, height: int, width: int, device: torch.device) -> Tensor:
    """A smooth displacement (H, W, 2) as (x, y) in ``grid_sample``'s unit.

    A cubic B-spline over random control points. Its weights are positive and add up to one, so
    the displacement never exceeds that of a control point, ``changes.elastic`` pixels.
    """
    size = np.array([width, height])
    points_y, points_x = (math.ceil(n / changes.elastic_smoothness) + 3 for n in (height, width))
    points = np.random.default_rng(changes.seed).uniform(-1, 1, (points_y, points_x, 2))
    points = (points * changes.elastic * 2 / size).astype(np.float32)
    field = _spline(torch.from_numpy(points).to(device), height, changes.elastic_smoothness)
    return _spline(field.transpose(0, 1), width, changes.elastic_smoothness).transpose(0, 1)


def _spline(points: Tensor, length: int, spacing: float) -> Tensor:
    """Interpolate control points (P, ...) along their first axis -> (length, ...)."""
    first, t = np.divmod(np.arange(length) / spacing, 1)
    basis = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    curve = points.new_zeros(length, *points.shape[1:])
    for offset, weight in enumerate(basis):
        index = torch.from_numpy(first.astype(np.int64) + offset).to(points.device)
        column = torch.from_numpy((weight / 6).astype(np.float32)).to(points.device)
        curve += points[index] * column.view(-1, *[1] * (points.ndim - 1))
    return curve


def _recolour(image: Tensor, changes: Draw) -> None:
    """Blur one image (C, H, W), change its tones and add noise, in place."""
    if changes.blur > 0:
        image.copy_(gaussian_blur(image, changes.blur, (-1, -2)).clamp_(0, 1))
    if changes.brightness != 0 or changes.contrast != 1:
        offset = _mean(image) * (1 - changes.contrast) + changes.brightness
        image.mul_(changes.contrast).add_(offset).clamp_(0, 1)
    if changes.saturation != 1 and len(image) == 3:
        red, green, blue = image
        grey = red * 0.299 + green * 0.587 + blue * 0.114  # (H, W), luma of ITU-R BT.601
        grey *= 1 - changes.saturation
        image.mul_(changes.saturation).add_(grey).clamp_(0, 1)
    if changes.gamma != 1:
        image.copy_(apply_gamma(image, changes.gamma))
    if changes.noise > 0:
        generator = torch.Generator(image.device).manual_seed(changes.seed)
        noise = torch.randn(image.shape, generator=generator, device=image.device)
        image.add_(noise.mul_(changes.noise)).clamp_(0, 1)


def _mean(image: Tensor) -> Tensor:
    """Mean of values in [0, 1] to within 1/510, the same in whatever order they are added."""
    lines = (image * 255).round_().sum(-1)  # (C, H) integers, which float32 adds exactly
    return lines.to(torch.int64).sum().to(image.dtype) / (255 * image.numel())


def apply_gamma(image: Tensor, exponent: float) -> Tensor:
    """``image ** exponent`` for values in [0, 1], linear between the steps of a table."""
    knots = (np.arange(GAMMA_STEPS + 1) / GAMMA_STEPS) ** exponent
    table = torch.from_numpy(knots.astype(np.float32)).to(image.device)
    position = image * GAMMA_STEPS
    step = position.to(torch.int32).clamp_(0, GAMMA_STEPS - 1)
    position -= step
    return table.diff()[step].mul_(position).add_(table[step]).clamp_(0, 1)


def gaussian_blur(image: Tensor, sigma: float, axes: Sequence[int]) -> Tensor:
    """Gaussian blur along ``axes``, repeating the border; sums of shifted copies, not a
    convolution, whose kernel is chosen by the shape of the batch."""
    radius = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    weights /= weights[0] + 2 * weights[1:].sum()
    for axis in axes:
        size = image.shape[axis]
        places = torch.arange(-radius, size + radius, device=image.device).clamp_(0, size - 1)
        padded = image.index_select(axis, places)
        image = padded.narrow(axis, radius, size) * float(weights[0])
        for offset, weight in enumerate(weights[1:].tolist(), start=1):
            before = padded.narrow(axis, radius - offset, size)
            after = padded.narrow(axis, radius + offset, size)
            image += (before + after).mul_(weight)
    return image
