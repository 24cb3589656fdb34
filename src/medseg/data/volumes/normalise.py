"""From stored values to the numbers that a network of volumes takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator


class Intensity(BaseModel):
    """How the values of one channel are normalised.

    ``ct`` is for scales that mean the same in every volume, as Hounsfield units do: values are cut
    off at two percentiles of the foreground of the training volumes, and normalised by its mean
    and standard deviation. ``zscore`` is for scales that do not, as in MR: each volume is
    normalised by its own mean and standard deviation. Both are those of nnU-Net (Isensee et al.
    2021, https://doi.org/10.1038/s41592-020-01008-z).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["zscore", "ct"]
    foreground: bool = False
    """``zscore``: of the voxels that are not 0, for volumes that are 0 around the body."""
    low: float | None = None
    """``ct``: smaller values become this one."""
    high: float | None = None
    """``ct``: larger values become this one."""
    mean: float | None = None
    """``ct``: subtracted."""
    std: float | None = Field(default=None, ge=1e-6)
    """``ct``: divided by."""

    @model_validator(mode="after")
    def _its_numbers_are_there(self) -> Self:
        numbers = (self.low, self.high, self.mean, self.std)
        if self.kind == "zscore" and any(number is not None for number in numbers):
            raise ValueError("zscore takes low, high, mean and std from the volume itself")
        if self.kind == "ct" and (None in numbers or self.foreground):
            raise ValueError("ct needs low, high, mean and std, and no foreground")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"values cannot be cut off at {self.low} and {self.high}")
        return self

    def of(self, values: NDArray[Any]) -> Normalisation:
        """How the volume (S, H, W) of which ``values`` are the stored ones is normalised."""
        if self.low is not None and self.high is not None:
            assert self.mean is not None
            assert self.std is not None
            return Normalisation(self.mean, self.std, (self.low, self.high))
        return Normalisation(*_mean_and_std(values, foreground=self.foreground))


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What is subtracted and divided by.

    Attributes:
        mean: in stored values.
        std: likewise, above 0.
        window: the values that smaller and larger ones become, or None.
    """

    mean: float
    std: float
    window: tuple[float, float] | None = None

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Stored values of any shape to float32; each by itself, so a part gives what the whole
        does."""
        scaled = values.astype(np.float32)
        if self.window is not None:
            np.clip(scaled, *map(np.float32, self.window), out=scaled)
        scaled -= np.float32(self.mean)
        scaled /= np.float32(self.std)
        return scaled


def _mean_and_std(values: NDArray[Any], *, foreground: bool) -> tuple[float, float]:
    """Of all voxels, or of those that are not 0 where there are some; a constant has the standard
    deviation 1. Slice by slice, because in float64 a volume would need eight bytes a voxel."""
    slices = [plane[plane != 0] if foreground else plane for plane in values]
    count = sum(plane.size for plane in slices)
    if not count:
        return 0.0, 1.0
    mean = sum(float(plane.sum(dtype=np.float64)) for plane in slices) / count
    squares = sum(float(np.square(plane - np.float64(mean)).sum()) for plane in slices)
    std = (squares / count) ** 0.5
    return mean, std if std > 1e-6 else 1.0
