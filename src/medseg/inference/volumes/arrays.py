"""What going over a volume needs of a library of arrays, so that PyTorch and NumPy do the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Arrays(Protocol):
    """Operations of one library. Numbers are float32, and each operation rounds by itself: so two
    libraries give the same bits."""

    def of(self, values: NDArray[np.floating[Any]]) -> Any:
        """As float32."""

    def zeros(self, shape: tuple[int, ...]) -> Any:
        """Float32."""

    def stack(self, parts: Sequence[Any]) -> Any:
        """Along a new first axis."""

    def single(self, values: Any) -> Any:
        """As float32."""

    def flip(self, values: Any, axes: tuple[int, ...]) -> Any:
        """Mirrored along ``axes``."""

    def take(self, values: Any, places: NDArray[np.int64], axis: int) -> Any:
        """A copy of the ``places`` along ``axis``."""


class NumpyArrays:
    """:class:`Arrays` without PyTorch."""

    def of(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        return values.astype(np.float32)

    def zeros(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return np.zeros(shape, np.float32)

    def stack(self, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return np.stack(parts)

    def single(self, values: NDArray[Any]) -> NDArray[np.float32]:
        return values.astype(np.float32, copy=False)

    def flip(self, values: NDArray[Any], axes: tuple[int, ...]) -> NDArray[Any]:
        return np.flip(values, axes)

    def take(self, values: NDArray[Any], places: NDArray[np.int64], axis: int) -> NDArray[Any]:
        return np.take(values, places, axis)


class TorchArrays:
    """:class:`Arrays` of tensors.

    Args:
        device: of new ones.
    """

    def __init__(self, device: Any) -> None:
        import torch

        self.torch, self.device = torch, device

    def of(self, values: NDArray[np.floating[Any]]) -> Any:
        return self.torch.from_numpy(values).to(self.device, self.torch.float32)

    def zeros(self, shape: tuple[int, ...]) -> Any:
        return self.torch.zeros(shape, device=self.device)

    def stack(self, parts: Sequence[Any]) -> Any:
        return self.torch.stack(list(parts))

    def single(self, values: Any) -> Any:
        return values.float()

    def flip(self, values: Any, axes: tuple[int, ...]) -> Any:
        return values.flip(axes)

    def take(self, values: Any, places: NDArray[np.int64], axis: int) -> Any:
        return values.index_select(axis, self.torch.from_numpy(places).to(self.device))


def arrays_of(values: Any) -> Arrays:
    """The operations on arrays like ``values``: a NumPy array, or else a tensor."""
    return NumpyArrays() if isinstance(values, np.ndarray) else TorchArrays(values.device)
