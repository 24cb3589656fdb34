"""A trained model computed by ONNX Runtime, without PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.cores import threads_asked_for
from medseg.errors import ModelError
from medseg.inference.bundle import (
    SUFFIX,
    Manifest,
    parse_manifest,
    read_bundle,
    read_graph,
    read_manifest,
)
from medseg.inference.graph_weights import LEFT_OUT, complete
from medseg.inference.onnx_file import MAX_BYTES, read_onnx
from medseg.inference.predictor import GraphModel, Predictor

METADATA = "medseg"
"""The key of an ONNX file's metadata that holds the manifest as JSON."""

IMAGE, MASK, PROBABILITIES = "image", "mask", "probabilities"
"""Of the graph: ``(N, H, W, C)`` uint8 to ``(N, H, W)`` uint8 class indices and ``(N, K, H, W)``
float32."""

LARGE = 4_000_000
"""Pixels from which memory is given back after each image: kept, it would grow with images of
different sizes; taken anew each time, it costs small ones a third more time."""

Signature = dict[str, tuple[str, list[int | None]]]
"""Type and shape by name; None is any number."""

BAKED_IN = ("num_classes", "preprocessing", "temperature", "threshold", "weights_sha256")
"""What a manifest says that a graph has as numbers of its own."""

BAKED_IN_VOLUMES = ("num_classes", "volume", "weights_sha256")
"""Likewise, of a model of volumes, and how windows are made for it."""


class OnnxModel(GraphModel):
    """An exported graph computed by ONNX Runtime.

    Args:
        manifest: what the bundle says of itself.
        graph: ONNX, as `medseg export` writes it.
        threads: that compute one image; default: ``OMP_NUM_THREADS``, else all cores.
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
        with told(source):
            if "QuantizeLinear" in read_onnx(graph).operations:
                self.precision = "int8"
            self.session = open_session(graph, threads=threads)
            classes, channels = manifest.num_classes, manifest.preprocessing.channels
            check_signature(
                self.session,
                {IMAGE: ("tensor(uint8)", [None, None, None, channels])},
                {
                    MASK: ("tensor(uint8)", [None, None, None]),
                    PROBABILITIES: ("tensor(float)", [None, classes, None, None]),
                },
                source,
            )

    def apply(
        self, image: NDArray[np.uint8], *, with_probabilities: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        found = self._run([MASK, PROBABILITIES] if with_probabilities else [MASK], image)
        return found[0], found[1] if with_probabilities else None

    def _run(self, wanted: list[str], image: NDArray[np.uint8]) -> list[NDArray[Any]]:
        """The ``wanted`` outputs of one image, checked: a graph may do what it likes."""
        with told(self.source):
            options = _giving_back() if image[:, :, 0].size >= LARGE else None
            outputs = self.session.run(wanted, {IMAGE: image[None]}, options)
            found = [each[0] for each in outputs]
            for name, values in zip(wanted, found, strict=True):
                size, classes = image.shape[:2], self.manifest.num_classes
                due = size if name == MASK else (classes, *size)
                if values.shape != due:
                    raise ValueError(f"its {name} has the shape {values.shape}, not {due}")
                if name == MASK and int(values.max()) >= len(self.labels.labels):
                    raise ValueError(f"its mask holds the class {values.max()}")
        return found


def check_signature(session: Any, takes: Signature, gives: Signature, source: object) -> None:
    """Refuse a graph with other inputs or outputs, by name, type and shape.

    Args:
        session: of ONNX Runtime.
        takes: the inputs that are due.
        gives: the outputs.
        source: of the graph, for the message.

    Raises:
        ModelError: they are others.
    """
    for what, found, due in (
        ("takes", session.get_inputs(), takes),
        ("gives", session.get_outputs(), gives),
    ):
        same = len(found) == len(due) and all(
            each.name in due and _fits(each, *due[each.name]) for each in found
        )
        if not same:
            shown = ", ".join(f"{each.name} {each.type} {each.shape}" for each in found[:4])
            raise ModelError(
                source,
                f"its graph {what} {shown or 'nothing'}, which is not what its labels and "
                "pre-processing need",
                "Export it again with `medseg export`",
            )


def _fits(found: Any, kind: str, shape: Sequence[int | None]) -> bool:
    """Whether an input or output has the numbers of ``shape`` and is free where that is None."""
    return (
        found.type == kind
        and len(found.shape) == len(shape)
        and all(
            not isinstance(size, int) if due is None else size == due
            for size, due in zip(found.shape, shape, strict=True)
        )
    )


def open_session(graph: bytes, *, threads: int | None = None) -> Any:
    """An ONNX Runtime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or threads_asked_for() or 0
    options.inter_op_num_threads = 1
    # A plan of the memory for each size of image costs more memory than it saves time.
    options.enable_mem_pattern = False
    # What goes wrong is raised, too, and said once.
    options.log_severity_level = 4
    # Never what else the bytes could be taken for.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return onnxruntime.InferenceSession(
        graph, options, providers=["CPUExecutionProvider"], enable_fallback=0
    )


def _giving_back() -> Any:
    """Options of a run after which memory is given back."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def load_onnx(path: Path, *, threads: int | None = None) -> Predictor:
    """Load an exported ``.onnx`` file or a bundle that holds a graph.

    Raises:
        ModelError: nothing there, damaged, not exported by medseg, or a bundle without a graph or
            with that of another model.
    """
    if path.suffix.lower() != SUFFIX:
        graph = _read(path)
        return _model_of(manifest_of_graph(path, graph), graph, threads, path)
    stored = read_graph(path)
    if stored is None:
        raise ModelError(
            path,
            "it holds weights for PyTorch and no graph for ONNX Runtime",
            "Add one where PyTorch is, `medseg export MODEL --format onnx -o model.medseg`, or "
            "pip install 'medseg[train]'",
        )
    with told(path):
        left_out = read_onnx(stored).metadata.get(LEFT_OUT)
        if left_out is not None:
            stored = complete(stored, left_out, read_bundle(path).weights)
    manifest, inner = read_manifest(path), manifest_of_graph(path, stored)
    for name in BAKED_IN if manifest.volume is None else BAKED_IN_VOLUMES:
        if getattr(manifest, name) != getattr(inner, name):
            raise ModelError(
                path, f"its graph is that of another model ({name} differs)", "Export it again"
            )
    return _model_of(manifest, stored, threads, path)


def _model_of(manifest: Manifest, graph: bytes, threads: int | None, path: Path) -> Predictor:
    if manifest.volume is None:
        return OnnxModel(manifest, graph, threads=threads, source=path)
    # It takes from here what both have in common.
    from medseg.inference.volumes.runtime import OnnxVolumeModel

    return OnnxVolumeModel(manifest, graph, threads=threads, source=path)


def manifest_of_graph(path: Path, graph: bytes) -> Manifest:
    """What an ONNX file of `medseg export` says of itself.

    Raises:
        ModelError: damaged, or not exported by medseg.
    """
    with told(path):
        stored = read_onnx(graph).metadata.get(METADATA)
    if stored is None:
        raise ModelError(
            path, "it was not exported by medseg: labels and pre-processing are not in it",
            "Export it with `medseg export`",
        )  # fmt: skip
    with told(path):
        return parse_manifest(path, stored)


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ModelError(path, "there is no such file", "Check the path")
    if path.stat().st_size > MAX_BYTES:
        raise ModelError(path, "it is larger than an ONNX file can be", "Check the path")
    return path.read_bytes()


@contextmanager
def told(source: object) -> Iterator[None]:
    """Whatever is wrong with a graph is a ModelError; ONNX Runtime raises a dozen kinds."""
    try:
        yield
    except (ModelError, ImportError):
        raise
    except Exception as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            source, f"ONNX Runtime cannot use it ({first_line})", "Copy or export it again"
        ) from error
