"""A trained model computed by ONNX Runtime, without PyTorch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.preprocess import to_channels
from medseg.errors import ModelError
from medseg.inference.bundle import SUFFIX, Manifest, read_graph, read_manifest
from medseg.inference.predictor import FLIPS, Prediction, Predictor

METADATA = "medseg"
"""The key of an ONNX file's metadata that holds the manifest as JSON."""

IMAGE, MASK, PROBABILITIES = "image", "mask", "probabilities"
"""Of the graph: ``(N, H, W, C)`` uint8 to ``(N, H, W)`` uint8 class indices and ``(N, K, H, W)``
float32."""


class OnnxModel(Predictor):
    """An exported graph, which resizes, normalises and decides by itself.

    Args:
        manifest: what the bundle says of itself.
        graph: ONNX, as `medseg export` writes it.
        threads: that compute one image; default: ``OMP_NUM_THREADS``, else all cores.
    """

    def __init__(self, manifest: Manifest, graph: bytes, *, threads: int | None = None) -> None:
        super().__init__(manifest)
        self.session = open_session(graph, threads=threads)

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return to_channels(image, self.manifest.preprocessing.channels)

    def compute(
        self,
        prepared: Sequence[NDArray[np.uint8]],
        sizes: Sequence[tuple[int, int]],
        *,
        tta: bool = False,
        with_probabilities: bool = False,
    ) -> Iterator[Prediction]:
        del sizes  # an image keeps its size on its way through the graph
        for image in prepared:
            if not tta:
                wanted = [MASK, PROBABILITIES] if with_probabilities else [MASK]
                found = self.session.run(wanted, {IMAGE: image[None]})
                yield Prediction(found[0][0], found[1][0] if with_probabilities else None)
                continue
            views = [self._probabilities(image, axes) for axes in FLIPS]
            mean: NDArray[np.float32] = np.stack(views).mean(axis=0)
            yield Prediction(self.decide(mean), mean if with_probabilities else None)

    def _probabilities(
        self, image: NDArray[np.uint8], axes: tuple[int, ...]
    ) -> NDArray[np.float32]:
        """Of the image flipped along ``axes`` of its height and width, flipped back."""
        turned = np.flip(image, tuple(axis - 1 for axis in axes))
        (found,) = self.session.run([PROBABILITIES], {IMAGE: np.ascontiguousarray(turned)[None]})
        return np.asarray(np.flip(found[0], axes))


def open_session(graph: bytes, *, threads: int | None = None) -> Any:
    """An ONNX Runtime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or int(os.environ.get("OMP_NUM_THREADS", "0"))
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def load_onnx(path: Path, *, threads: int | None = None) -> OnnxModel:
    """Load an exported ``.onnx`` file or a bundle that holds a graph.

    Raises:
        ModelError: nothing there, damaged, or a bundle without a graph.
    """
    if path.suffix.lower() == SUFFIX:
        graph = read_graph(path)
        if graph is None:
            raise ModelError(
                path,
                "it holds weights for PyTorch and no graph for ONNX Runtime",
                "Export it where it was trained: medseg export RUN --format onnx -o model.onnx",
            )
        manifest = read_manifest(path)
    else:
        if not path.is_file():
            raise ModelError(path, "there is no such file", "Check the path")
        graph = path.read_bytes()
        manifest = manifest_of_graph(path, graph)
    try:
        return OnnxModel(manifest, graph, threads=threads)
    except Exception as error:
        raise _unusable(path, error) from error


def manifest_of_graph(path: Path, graph: bytes) -> Manifest:
    """What an ONNX file of `medseg export` says of itself.

    Raises:
        ModelError: damaged, or not exported by medseg.
    """
    try:
        session = open_session(graph, threads=1)
    except Exception as error:
        raise _unusable(path, error) from error
    stored = session.get_modelmeta().custom_metadata_map.get(METADATA)
    if stored is None:
        raise ModelError(
            path, "it was not exported by medseg: labels and pre-processing are not in it",
            "Export it with `medseg export`",
        )  # fmt: skip
    try:
        return Manifest.model_validate(json.loads(stored))
    except ValueError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: Exception) -> ModelError:
    first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ModelError(path, f"ONNX Runtime cannot use it ({first_line})", "Copy or export it again")
