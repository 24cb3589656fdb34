"""A trained network of volumes, applied to files of any size and spacing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg.data.io.geometry import Slicing
from medseg.data.io.volume import read_header
from medseg.data.labels import decode_mask
from medseg.data.slices import Stack, open_slices, volume_of
from medseg.data.source import Source
from medseg.data.volumes.read import Grid, grid_of
from medseg.data.volumes.resample import Shape, Triple
from medseg.engine.device import choose_device, choose_precision, return_freed_memory
from medseg.engine.memory import free_memory
from medseg.errors import DataError, ModelError
from medseg.inference.bundle import Manifest, Postprocessing, VolumeInput
from medseg.inference.limit import as_bytes, show_ram
from medseg.inference.logits import predicted_classes
from medseg.inference.predictor import Prediction, Predictor, volumes_refused
from medseg.inference.volumes.components import clean_volume
from medseg.inference.volumes.geometry import (
    for_network,
    network_shape,
    padding,
    read_for_network,
    reading_bytes,
    turned,
)
from medseg.inference.volumes.memory import (
    LIBRARIES,
    SCRATCH,
    Need,
    choose_boxes,
    forward_bytes,
    resident,
)
from medseg.inference.volumes.sliding import Box, Windows, mirrored, slide
from medseg.inference.volumes.streaming import Regrid
from medseg.losses.region import probabilities

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class VolumeOptions:
    """How a volume is predicted.

    Attributes:
        tta: average over the mirrorings that the model was trained on.
        with_probabilities: give them, too.
        limit: bytes that the process may hold; None: what the machine has.
        overlay: whether contours are drawn afterwards, which takes memory, too.
    """

    tta: bool = False
    with_probabilities: bool = False
    limit: int | None = None
    overlay: bool = False


@dataclass(frozen=True)
class Slab:
    """A part of an output slice.

    Attributes:
        index: of the slice.
        box: the part of it.
        logits: ``(K, h, w)`` float32, calibrated.
    """

    index: int
    box: Box
    logits: Tensor


class VolumeModel(Predictor):
    """A trained network of volumes with its pre- and post-processing.

    Args:
        manifest: what the bundle says of itself, with its section ``volume``.
        network: with the bundle's weights.
        device: where to compute: ``auto``, ``cpu``, ``cuda:0`` or ``mps``.
        precision: ``fp32``; ``bf16`` or, on a GPU, ``fp16`` trade digits for speed.

    Attributes:
        settings: the manifest's section ``volume``.
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
        assert manifest.volume is not None
        self.settings: VolumeInput = manifest.volume
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

    @torch.inference_mode()
    def slabs(
        self, image: NDArray[np.float32], shape: Shape, *, tta: bool, room: int | None = None
    ) -> Iterator[Slab]:
        """The logits of a volume on the grid of its file, slice by slice.

        Args:
            image: ``(C, S, H, W)``, by :func:`read_for_network`.
            shape: of the output.
            tta: average over the mirrorings that the network was trained on.
            room: bytes that logits may take; where that is too little for whole slices, these
                come in parts, one part of all slices after the other. None: all there is.
        """
        inner = (image.shape[1], image.shape[2], image.shape[3])
        pads = padding(inner, self.settings.patch)
        padded = np.pad(image, ((0, 0), *pads)) if any(map(any, pads)) else image
        windows, regrid = self._grids(inner, shape)
        network = mirrored(self.logits, self.settings.mirror) if tta else self.logits
        volume = torch.from_numpy(padded).to(self.device)
        (before, _), (above, _), (beside, _) = pads
        boxes, _ = choose_boxes(windows, regrid, self.manifest.num_classes, room)
        for box in boxes:
            near = regrid.reach(box)
            there = Box(
                (near.rows[0] + above, near.rows[1] + above),
                (near.columns[0] + beside, near.columns[1] + beside),
            )
            planes = slide(network, volume, windows, box=there, batch=self.batch_size)
            inside = islice(planes, before, before + inner[0])
            for index, logits in enumerate(regrid.stream(inside, box)):
                yield Slab(index, box, logits / self.manifest.temperature)

    def classify(
        self,
        image: NDArray[np.float32],
        shape: Shape,
        *,
        tta: bool = False,
        room: int | None = None,
        keep: NDArray[np.float32] | None = None,
        progress: Progress | None = None,
    ) -> NDArray[np.uint8]:
        """The classes of a volume.

        Args:
            image: ``(C, S, H, W)``, by :func:`read_for_network`.
            shape: of the output.
            tta: as in :meth:`predict`.
            room: as in :meth:`slabs`.
            keep: ``(K, *shape)`` that is filled with the probabilities.
            progress: called with (done, total) slices.

        Returns:
            ``shape`` uint8 class indices, components cleaned.
        """
        classes = np.zeros(shape, np.uint8)
        done = 0
        for slab in self.slabs(image, shape, tta=tta, room=room):
            part = (slab.index, slice(*slab.box.rows), slice(*slab.box.columns))
            found = predicted_classes(slab.logits[None], self.manifest.threshold)[0]
            classes[part] = found.cpu().numpy()
            if keep is not None:
                shares = probabilities(slab.logits[None])[0]
                keep[:, *part] = shares.cpu().numpy()
            done += slab.box.height * slab.box.width
            if progress is not None:
                progress(done // (shape[1] * shape[2]), shape[0])
        return clean_volume(classes, self.manifest.postprocessing)

    def predict(
        self,
        image: str | Path | NDArray[Any],
        *,
        tta: bool = False,
        spacing: Triple | None = None,
        max_ram: str | int | None = None,
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """The mask of one volume.

        Args:
            image: a file or the folder of a DICOM series; or an array ``(S, H, W)`` or
                ``(C, S, H, W)`` of stored values, which lies as the model's volumes do.
            tta: average over the mirrorings that the model was trained on.
            spacing: of an array: between its slices, rows and columns in mm.
            max_ram: what this process may hold in memory, in bytes or as ``"2GB"``. The mask does
                not depend on it.

        Returns:
            Label values as the training masks stored them: of a file ``(I, J, K)``, as its voxels
            are stored; of an array ``(S, H, W)``.

        Raises:
            DataError: an unreadable file, one that does not fit the model, or one that takes more
                memory than ``max_ram``.
            ModelError: ``tta`` for a model that was not trained on mirrored volumes.
        """
        found, turn = self._of_any(image, spacing, VolumeOptions(tta, limit=as_bytes(max_ram)))
        classes = found.classes if turn is None else turn.join(found.classes)
        return decode_mask(classes, self.labels)

    def predict_probabilities(
        self,
        image: str | Path | NDArray[Any],
        *,
        tta: bool = False,
        spacing: Triple | None = None,
        max_ram: str | int | None = None,
    ) -> NDArray[np.float32]:
        """``(K, ...)`` calibrated class probabilities, otherwise of the shape that :meth:`predict`
        returns; K = 1 (foreground) for a binary task."""
        options = VolumeOptions(tta, with_probabilities=True, limit=as_bytes(max_ram))
        found, turn = self._of_any(image, spacing, options)
        assert found.probabilities is not None
        if turn is None:
            return found.probabilities
        return np.stack([turn.join(share) for share in found.probabilities])

    def _of_any(
        self, image: str | Path | NDArray[Any], spacing: Triple | None, options: VolumeOptions
    ) -> tuple[Prediction, Slicing | None]:
        """Of a file, with how its stored axes were turned, or of an array."""
        if not isinstance(image, str | Path):
            prepared, shape = self._of_array(image, spacing)
            return self._infer(prepared, shape, "image", options), None
        source = open_slices(Path(image), fourth=self.manifest.preprocessing.channels > 1)
        found = self.predict_source(source, options)
        files = volume_of(source)
        return found, None if files is None else turned(read_header(files), self.settings.plane)

    def predict_source(
        self,
        source: Source,
        options: VolumeOptions | None = None,
        *,
        progress: Progress | None = None,
    ) -> Prediction:
        """What the model makes of a volume.

        Args:
            source: of all its slices.
            options: how.
            progress: called with (done, total) slices.

        Returns:
            Classes ``(S, H, W)`` and probabilities ``(K, S, H, W)`` in the model's plane.

        Raises:
            DataError: a picture, an unreadable file, or one that does not fit the model or the
                memory.
            ModelError: test-time augmentation for a model that was not trained on mirrored
                volumes.
        """
        options = options or VolumeOptions()
        channels = self.manifest.preprocessing.channels
        if volume_of(source) is None and not isinstance(source, Stack):
            raise DataError(
                source,
                "is a picture, and the model takes volumes",
                "Name a NIfTI, NRRD or DICOM volume; pictures are taken for slices by models that "
                "were trained so (--set data.slices=PATTERN)",
            )
        grid = grid_of(source, self.settings.plane)
        shape = network_shape(grid, self.settings, source)
        if options.limit is not None:
            reading = reading_bytes(source, grid, shape, channels)
            need = self.need(shape, grid.shape, options, reading)
            self._check_limit(source, need, options, shape, grid.shape)
        image, own = read_for_network(source, self.settings, channels, self.max_pixels)
        return self._infer(image, own, source, options, progress)

    def _infer(
        self,
        image: NDArray[np.float32],
        shape: Shape,
        where: object,
        options: VolumeOptions,
        progress: Progress | None = None,
    ) -> Prediction:
        if options.tta and not self.settings.mirror:
            raise ModelError(
                "--tta",
                "this model was not trained on mirrored volumes, so their average says nothing",
                "Leave it out",
            )
        keep = None
        if options.with_probabilities:
            keep = np.empty((self.manifest.num_classes, *shape), np.float32)
        classes = self.classify(
            image,
            shape,
            tta=options.tta,
            room=self._room(image.shape[1:], shape, where, options),
            keep=keep,
            progress=progress,
        )
        return Prediction(classes, keep)

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

    def _grids(self, inner: Sequence[int], shape: Shape) -> tuple[Windows, Regrid]:
        padded = [
            length + sum(pad)
            for length, pad in zip(inner, padding(inner, self.settings.patch), strict=True)
        ]
        windows = Windows(
            (padded[0], padded[1], padded[2]), self.settings.patch, self.settings.overlap
        )
        return windows, Regrid(tuple(inner), shape)

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

    def _room(
        self, inner: Sequence[int], shape: Shape, where: object, options: VolumeOptions
    ) -> int | None:
        """Bytes that logits may take: what ``--max-ram`` leaves of them, or most of what is free.

        Raises:
            DataError: it leaves too little.
        """
        if options.limit is None or self.device.type != "cpu":
            free = free_memory(self.device)
            return None if free is None else round(0.6 * free)
        return_freed_memory()
        need = self.need(inner, shape, options)
        self._check_limit(where, need, options, inner, shape)
        return need.room(options.limit)

    def _of_array(
        self, image: NDArray[Any], spacing: Triple | None
    ) -> tuple[NDArray[np.float32], Shape]:
        stored = image[None] if image.ndim == 3 else image
        channels = self.manifest.preprocessing.channels
        if stored.ndim != 4 or len(stored) != channels or not stored.size:
            raise DataError(
                "image", f"an array of shape {image.shape}",
                f"Give (slices, rows, columns) with {channels} channels before them",
            )  # fmt: skip
        stored = np.array(stored, np.float32, order="C")
        if not np.isfinite(stored).all():
            raise DataError("image", "holds NaN or infinity", "Replace them")
        _, slices, rows, columns = stored.shape
        shape = (slices, rows, columns)
        grid = Grid(shape, spacing, self.settings.plane)
        wanted = network_shape(grid, self.settings, "image")
        return for_network(stored, spacing, self.settings, wanted), shape

    def prepare(self, image: NDArray[np.uint8]) -> NoReturn:
        """Refuse a picture.

        Raises:
            ModelError: always.
        """
        raise volumes_refused(self.manifest.system)

    def compute(
        self,
        prepared: Sequence[NDArray[Any]],
        sizes: Sequence[tuple[int, int]],
        *,
        tta: bool = False,
        with_probabilities: bool = False,
    ) -> NoReturn:
        """Refuse pictures, as :meth:`prepare`."""
        raise volumes_refused(self.manifest.system)
