"""A trained network of volumes, computed by ONNX Runtime without PyTorch.

The graph is the network on one window. Reading, resampling, normalisation and the average over
windows are medseg's own, and do the same sums as with PyTorch.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from medseg.data.source import Source
from medseg.data.volumes.read import Grid
from medseg.data.volumes.resample import Shape
from medseg.errors import ModelError
from medseg.inference.bundle import Manifest
from medseg.inference.onnx_file import read_onnx
from medseg.inference.runtime import check_signature, open_session, told
from medseg.inference.volumes.predictor import VolumeOptions, VolumePredictor

WINDOW, LOGITS = "window", "logits"
"""Of the graph: ``(1, C, *patch)`` float32, resampled and normalised, to ``(1, K, *patch)``."""


class OnnxVolumeModel(VolumePredictor):
    """An exported network of volumes computed by ONNX Runtime.

    Args:
        manifest: what the bundle says of itself.
        graph: ONNX, as `medseg export` writes it.
        threads: that compute a window; default: ``OMP_NUM_THREADS``, else all cores.
        source: of the graph, for messages.

    Raises:
        ModelError: ONNX Runtime cannot use the graph, or it is not one of such a model.
    """

    engine = "onnx"

    def __init__(
        self,
        manifest: Manifest,
        graph: bytes,
        *,
        threads: int | None = None,
        source: object = "the graph",
    ) -> None:
        super().__init__(manifest)
        self.source = source
        patch = self.settings.patch
        with told(source):
            # It refuses tensors that lie in other files.
            read_onnx(graph)
            self.session = open_session(graph, threads=threads)
            check_signature(
                self.session,
                {WINDOW: ("tensor(float)", [1, manifest.preprocessing.channels, *patch])},
                {LOGITS: ("tensor(float)", [1, manifest.num_classes, *patch])},
                source,
            )

    def logits(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        found: NDArray[np.float32]
        with told(self.source):
            (found,) = self.session.run([LOGITS], {WINDOW: np.ascontiguousarray(inputs)})
            due = (1, self.manifest.num_classes, *self.settings.patch)
            if found.shape != due:
                raise ValueError(f"its logits have the shape {found.shape}, not {due}")
        return found

    def placed(self, volume: NDArray[np.float32]) -> NDArray[np.float32]:
        return volume

    def classes_of(self, logits: NDArray[np.float32]) -> NDArray[np.uint8]:
        if len(logits) == 1:
            limit = math.log(self.manifest.threshold / (1 - self.manifest.threshold))
            reached: NDArray[np.bool_] = logits[0] >= limit
            return reached.astype(np.uint8)
        largest: NDArray[np.intp] = logits.argmax(axis=0)
        return largest.astype(np.uint8)

    def shares_of(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        shares: NDArray[np.float32]
        if len(logits) == 1:
            # Of the two forms of a sigmoid the one whose power is small.
            powers = np.exp(-np.abs(logits))
            shares = np.where(logits >= 0, np.float32(1), powers) / (1 + powers)
        else:
            powers = np.exp(logits - logits.max(axis=0))
            shares = powers / powers.sum(axis=0)
        return shares

    def check_limit(self, source: Source, grid: Grid, shape: Shape, options: VolumeOptions) -> None:
        del source, grid, shape, options
        raise ModelError(
            "--max-ram",
            "what ONNX Runtime takes is not foreseen",
            "Leave it out, or compute with PyTorch (--engine torch)",
        )
