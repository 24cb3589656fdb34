"""The files of an export: written, and opened again as whoever receives them does."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg.cores import threads as default_threads
from medseg.errors import ModelError
from medseg.extras import needed_by
from medseg.inference.bundle import SUFFIX, Manifest, parse_manifest
from medseg.inference.predictor import GraphModel, Predictor
from medseg.inference.runtime import IMAGE, MASK, METADATA, PROBABILITIES, OnnxModel, load_onnx

Format = Literal["onnx", "openvino", "torchscript", "web"]

SUFFIXES: dict[Format, tuple[str, ...]] = {
    "onnx": (".onnx", SUFFIX),
    "openvino": (".xml",),
    "torchscript": (".pt",),
    "web": (".html",),
}
"""Of the output; a web page that is no single file is a folder of any name."""

NEEDS: dict[Format, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino"),
    "torchscript": (),
    "web": ("onnx", "onnxscript", "onnxruntime"),
}
"""Modules beside PyTorch that write and check each format."""

Run = Callable[[NDArray[np.uint8]], tuple[NDArray[np.uint8], NDArray[np.float32]]]
"""``(N, H, W, C)`` images to ``(N, H, W)`` class indices and ``(N, K, H, W)`` probabilities."""


@dataclass(frozen=True)
class Artefact:
    """An exported file, opened.

    Attributes:
        predictor: images to masks, components cleaned.
        run: the bare graph.
    """

    predictor: Predictor
    run: Run


class CalledModel(GraphModel):
    """An exported graph, whatever runs it.

    Args:
        manifest: stored with it.
        run: the graph.
    """

    def __init__(self, manifest: Manifest, run: Run) -> None:
        super().__init__(manifest)
        self.run = run

    def apply(
        self, image: NDArray[np.uint8], *, with_probabilities: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
        mask, shares = self.run(np.ascontiguousarray(image)[None])
        return mask[0], shares[0] if with_probabilities else None


class OpenVinoModel(CalledModel):
    """A graph computed by OpenVINO."""

    engine = "openvino"


class TorchScriptModel(CalledModel):
    """A graph computed by PyTorch's interpreter of TorchScript."""

    engine = "torchscript"


def check_installed(format: Format) -> None:  # noqa: A002
    """Raise a MedsegError that says what to install where a module for ``format`` is missing."""
    with needed_by(f"--format {format}"):
        for name in NEEDS[format]:
            importlib.import_module(name)


def write_openvino(graph: bytes, manifest: Manifest, path: Path) -> None:
    """Write ``path`` (.xml) and the weights beside it (.bin).

    OpenVINO ignores that a resize of an ONNX graph is antialiased; its own mode
    ``bilinear_pillow`` is what the images were resized with in training.

    Args:
        graph: by :func:`medseg.export.graph.to_onnx`, or the same quantised.
        manifest: to be stored in the file.
        path: ends in ``.xml``.
    """
    import openvino
    from openvino import opset11

    model = openvino.Core().read_model(graph)
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Interpolate" or not node.get_attributes()["antialias"]:
            continue
        size = manifest.preprocessing.image_size
        resize = opset11.interpolate(
            node.input_value(0),
            opset11.constant(np.array([size, size], np.int64)),
            mode="bilinear_pillow",
            shape_calculation_mode="sizes",
            axes=opset11.constant(np.array([2, 3], np.int64)),
            pads_begin=[0, 0],
            pads_end=[0, 0],
        )
        for target in node.output(0).get_target_inputs():
            target.replace_source_output(resize.output(0))
    model.validate_nodes_and_infer_types()
    model.set_rt_info(manifest.model_dump_json(), [METADATA])
    openvino.save_model(model, path, compress_to_fp16=False)


def open_openvino(path: Path, *, threads: int | None = None) -> Artefact:
    """Open what :func:`write_openvino` wrote, to be computed on the CPU in float32.

    Without the precision hint OpenVINO computes in bfloat16 where the processor can.
    """
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    manifest = parse_manifest(path, model.get_rt_info([METADATA]).astype(str))
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads or default_threads(),
    }
    compiled = core.compile_model(model, "CPU", options)

    def run(images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        found = compiled({IMAGE: images})
        return found[MASK], found[PROBABILITIES]

    return Artefact(OpenVinoModel(manifest, run), run)


def write_torchscript(model: Any, manifest: Manifest, path: Path) -> None:
    """Write a TorchScript archive: code and weights that PyTorch executes.

    Args:
        model: a :class:`medseg.inference.network.Model` on the CPU.
        manifest: to be stored in the file, as ``extra/medseg``.
        path: to write.

    Raises:
        ModelError: the network cannot be traced.
    """
    import torch

    from medseg.export.graph import FileToMask, example, first_line, quiet

    try:
        with quiet(), torch.inference_mode():
            module = FileToMask(model).eval()
            traced: Any = torch.jit.trace(module, example(manifest), check_trace=False)  # type: ignore[no-untyped-call]
            torch.jit.save(traced, path, {METADATA: manifest.model_dump_json()})
    except Exception as error:
        raise ModelError(
            manifest.system, f"it cannot be traced ({first_line(error)})", "Try --format onnx"
        ) from error


def open_torchscript(path: Path, *, threads: int | None = None) -> Artefact:
    """Open what :func:`write_torchscript` wrote. PyTorch executes the code in it."""
    import torch

    from medseg.export.graph import quiet

    if threads is not None:
        torch.set_num_threads(threads)
    extra = {METADATA: ""}
    with quiet():
        script: Any = torch.jit.load(path, map_location="cpu", _extra_files=extra)  # type: ignore[no-untyped-call]
    manifest = parse_manifest(path, extra[METADATA])

    def run(images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        with torch.inference_mode():
            mask, shares = script(torch.from_numpy(images))
        return mask.numpy(), shares.numpy()

    return Artefact(TorchScriptModel(manifest, run), run)


def open_onnx(path: Path, *, threads: int | None = None) -> Artefact:
    """Open an ``.onnx`` file, or a bundle that holds a graph, in ONNX Runtime."""
    predictor = load_onnx(path, threads=threads)

    def run(images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        assert isinstance(predictor, OnnxModel), "a graph of volumes takes windows"
        mask, shares = predictor.session.run([MASK, PROBABILITIES], {IMAGE: images})
        return mask, shares

    return Artefact(predictor, run)


def open_artefact(path: Path, *, threads: int | None = None) -> Artefact:
    """Open an exported file by its suffix.

    Args:
        path: ``.onnx``, ``.medseg`` with a graph, ``.xml`` or ``.pt``.
        threads: that compute one image; default: ``OMP_NUM_THREADS``, else all cores.
    """
    openers = {".xml": open_openvino, ".pt": open_torchscript}
    return openers.get(path.suffix, open_onnx)(path, threads=threads)
