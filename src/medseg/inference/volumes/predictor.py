"""Models of volumes applied to files of any size and spacing, whatever computes them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from medseg.data.io.geometry import Slicing
from medseg.data.io.volume import read_header
from medseg.data.labels import decode_mask
from medseg.data.slices import Stack, open_slices, volume_of
from medseg.data.source import Source
from medseg.data.volumes.read import Grid, grid_of
from medseg.data.volumes.resample import Shape, Triple
from medseg.errors import DataError, ModelError
from medseg.inference.bundle import Manifest, VolumeInput
from medseg.inference.limit import as_bytes
from medseg.inference.predictor import Prediction, Predictor, volumes_refused
from medseg.inference.volumes.components import clean_volume
from medseg.inference.volumes.geometry import (
    for_network,
    network_shape,
    padding,
    read_for_network,
    turned,
)
from medseg.inference.volumes.sliding import Box, Windows, mirrored, slide
from medseg.inference.volumes.streaming import Regrid

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
        logits: ``(K, h, w)`` float32, calibrated; a tensor or a NumPy array.
    """

    index: int
    box: Box
    logits: Any


class VolumePredictor(Predictor):
    """From volumes to masks: windows, their average, the file's own grid.

    Args:
        manifest: what the bundle says of itself, with its section ``volume``.

    Attributes:
        settings: the manifest's section ``volume``.
    """

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest)
        assert manifest.volume is not None
        self.settings: VolumeInput = manifest.volume

    @abstractmethod
    def logits(self, inputs: Any) -> Any:
        """``(B, C, *patch)`` windows to ``(B, K, *patch)`` logits, not calibrated."""

    @abstractmethod
    def placed(self, volume: NDArray[np.float32]) -> Any:
        """``(C, S, H, W)`` where :meth:`logits` takes windows of it."""

    @abstractmethod
    def classes_of(self, logits: Any) -> NDArray[np.uint8]:
        """``(K, h, w)`` calibrated logits to ``(h, w)`` class indices."""

    @abstractmethod
    def shares_of(self, logits: Any) -> NDArray[np.float32]:
        """``(K, h, w)`` calibrated logits to probabilities."""

    @abstractmethod
    def check_limit(self, source: Source, grid: Grid, shape: Shape, options: VolumeOptions) -> None:
        """Refuse a volume that takes more than ``options.limit``, before it is read.

        Args:
            source: of the volume.
            grid: its own.
            shape: of the volume as the network sees it.
            options: of the prediction.

        Raises:
            DataError: it takes more.
        """

    def parts(self, windows: Windows, regrid: Regrid, room: int | None) -> Sequence[Box]:
        """The parts in which slices are computed, one after the other.

        Args:
            windows: on the volume.
            regrid: to the output.
            room: bytes that logits may take; None: all there is.
        """
        del windows, room
        return (Box((0, regrid.wanted[1]), (0, regrid.wanted[2])),)

    def room(
        self, inner: Sequence[int], shape: Shape, where: object, options: VolumeOptions
    ) -> int | None:
        """Bytes that logits may take; None: all there is.

        Args:
            inner: slices, rows and columns as the network sees them.
            shape: of the output.
            where: the volume, for messages.
            options: of the prediction.

        Raises:
            DataError: too few are left.
        """
        del inner, shape, where, options
        return None

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
        volume = self.placed(padded)
        (before, _), (above, _), (beside, _) = pads
        for box in self.parts(windows, regrid, room):
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
            classes[part] = self.classes_of(slab.logits)
            if keep is not None:
                keep[:, *part] = self.shares_of(slab.logits)
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
            return self.predict_array(image, spacing, options), None
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
            self.check_limit(source, grid, shape, options)
        image, own = read_for_network(source, self.settings, channels, self.max_pixels)
        return self._infer(image, own, source, options, progress)

    def predict_array(
        self, image: NDArray[Any], spacing: Triple | None, options: VolumeOptions | None = None
    ) -> Prediction:
        """What the model makes of stored values.

        Args:
            image: ``(S, H, W)`` or ``(C, S, H, W)``, which lies as the model's volumes do.
            spacing: between slices, rows and columns in mm; None where it is not known.
            options: how.

        Returns:
            Classes ``(S, H, W)`` and probabilities ``(K, S, H, W)``.

        Raises:
            DataError: another shape, or numbers that are none.
            ModelError: as :meth:`predict_source`.
        """
        prepared, shape = self._of_array(image, spacing)
        return self._infer(prepared, shape, "image", options or VolumeOptions())

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
            room=self.room(image.shape[1:], shape, where, options),
            keep=keep,
            progress=progress,
        )
        return Prediction(classes, keep)

    def _grids(self, inner: Sequence[int], shape: Shape) -> tuple[Windows, Regrid]:
        padded = [
            length + sum(pad)
            for length, pad in zip(inner, padding(inner, self.settings.patch), strict=True)
        ]
        windows = Windows(
            (padded[0], padded[1], padded[2]), self.settings.patch, self.settings.overlap
        )
        return windows, Regrid(tuple(inner), shape)

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
