"""A trained network of volumes, computed by PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg.data.source import Source
from medseg.data.volumes.read import Grid
from medseg.data.volumes.resample import Shape
from medseg.engine.device import choose_device, choose_precision, return_memory_when_freed
from medseg.engine.memory import free_memory
from medseg.errors import DataError, ModelError
from medseg.inference.bundle import Manifest, Postprocessing
from medseg.inference.limit import show_ram
from medseg.inference.logits import predicted_classes
from medseg.inference.volumes.geometry import padding, reading_bytes
from medseg.inference.volumes.memory import (
    LIBRARIES,
    SCRATCH,
    Need,
    choose_boxes,
    forward_bytes,
    resident,
)
from medseg.inference.volumes.predictor import Slab, VolumeOptions, VolumePredictor
from medseg.inference.volumes.sliding import Box, Windows
from medseg.inference.volumes.streaming import Regrid
from medseg.losses.region import probabilities

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class VolumeModel(VolumePredictor):
    """A trained network of volumes with its pre- and post-processing.

    Args:
        manifest: what the bundle says of itself, with its section ``volume``.
        network: with the bundle's weights.
        device: where to compute: ``auto``, ``cpu``, ``cuda:0`` or ``mps``.
        precision: ``fp32``; ``bf16`` or, on a GPU, ``fp16`` trade digits for speed.
    """

    engine = "torch"

    def __init__(
        self,
        manifest: Manifest,
        network: nn.Module,
        *,
        device: str = "auto",
        precision: str = "fp32",
    ) -> None:
        super().__init__(manifest)
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.network = network.eval().requires_grad_(False).to(self.device)
        self._forward: int | None = None

    @property
    def batch_size(self) -> int:
        """Windows per forward pass. On a CPU larger batches are no faster."""
        return 1 if self.device.type == "cpu" else 4

    @torch.inference_mode()
    def logits(self, inputs: Tensor) -> Tensor:
        """``(B, C, *patch)`` windows to ``(B, K, *patch)`` logits, not calibrated."""
        with torch.autocast(
            self.device.type, dtype=_DTYPES[self.precision], enabled=self.precision != "fp32"
        ):
            out: Tensor = self.network(inputs)
        return out

    def placed(self, volume: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(volume).to(self.device)

    def classes_of(self, logits: Tensor) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = (
            predicted_classes(logits[None], self.manifest.threshold)[0].cpu().numpy()
        )
        return found

    def shares_of(self, logits: Tensor) -> NDArray[np.float32]:
        found: NDArray[np.float32] = probabilities(logits[None])[0].cpu().numpy()
        return found

    @torch.inference_mode()
    def slabs(
        self, image: NDArray[np.float32], shape: Shape, *, tta: bool, room: int | None = None
    ) -> Iterator[Slab]:
        yield from super().slabs(image, shape, tta=tta, room=room)

    def parts(self, windows: Windows, regrid: Regrid, room: int | None) -> Sequence[Box]:
        return choose_boxes(windows, regrid, self.manifest.num_classes, room)[0]

    def check_limit(self, source: Source, grid: Grid, shape: Shape, options: VolumeOptions) -> None:
        reading = reading_bytes(source, grid, shape, self.manifest.preprocessing.channels)
        need = self.need(shape, grid.shape, options, reading)
        self._check_limit(source, need, options, shape, grid.shape)

    def need(
        self, inner: Sequence[int], shape: Shape, options: VolumeOptions, reading: int = 0
    ) -> Need:
        """What a volume takes beside its logits.

        Args:
            inner: slices, rows and columns as the network sees them.
            shape: of the output.
            options: of the prediction.
            reading: bytes until the volume is read; 0 once it is in memory.

        Raises:
            ModelError: a network whose memory cannot be foreseen.
        """
        channels, classes = self.manifest.preprocessing.channels, self.manifest.num_classes
        voxels = prod(shape)
        padded = any(map(any, padding(inner, self.settings.patch)))
        inputs = 4 * channels * prod(inner)
        volume = voxels * (1 + (4 * classes if options.with_probabilities else 0))
        volume += inputs if padded else 0
        rules = self.manifest.postprocessing
        cleaning = 12 * voxels if rules != Postprocessing() else 0
        # The classes once more as values; with contours, the volume once more as pictures.
        writing = voxels * (3 + (24 if options.overlay else 0)) + volume
        return Need(
            program=resident(),
            reading=reading,
            volume=volume + (inputs if reading else 0),
            window=max(self._window_bytes(tta=options.tta), cleaning),
            writing=writing,
        )

    def _window_bytes(self, *, tta: bool) -> int:
        """Of one forward pass on the CPU, as measured; 0 elsewhere, where memory is another's."""
        if self.device.type != "cpu":
            return 0
        patch = self.settings.patch
        if self._forward is None:
            window = (self.batch_size, self.manifest.preprocessing.channels, *patch)
            try:
                live = forward_bytes(self.network, window, _DTYPES[self.precision])
            except Exception as error:
                raise ModelError(
                    "--max-ram",
                    f"the memory of {self.manifest.system} cannot be foreseen ({error})",
                    "Leave it out",
                ) from error
            self._forward = round(SCRATCH * live)
        # The sum of the logits so far, those of a mirrored window, and those mirrored back.
        mirrored_too = 12 * self.manifest.num_classes * prod(patch) if tta else 0
        return self._forward + mirrored_too

    def _least(self, inner: Sequence[int], shape: Shape) -> int:
        """Bytes of the logits of the smallest part."""
        return choose_boxes(*self._grids(inner, shape), self.manifest.num_classes, 0)[1]

    def _check_limit(
        self, where: object, need: Need, options: VolumeOptions, inner: Sequence[int], shape: Shape
    ) -> None:
        limit = options.limit
        assert limit is not None
        least = need.peak(self._least(inner, shape))
        if least > limit:
            raise DataError(
                where,
                f"takes {show_ram(least)} of memory where --max-ram allows {show_ram(limit)} "
                f"({show_ram(need.program + LIBRARIES)} for the program and the network, "
                f"{show_ram(need.window)} for one window, the rest for the volume)",
                f"Allow {show_ram(least)}",
            )

    def room(
        self, inner: Sequence[int], shape: Shape, where: object, options: VolumeOptions
    ) -> int | None:
        if options.limit is None or self.device.type != "cpu":
            free = free_memory(self.device)
            return None if free is None else round(0.6 * free)
        return_memory_when_freed()
        need = self.need(inner, shape, options)
        self._check_limit(where, need, options, inner, shape)
        return need.room(options.limit)
