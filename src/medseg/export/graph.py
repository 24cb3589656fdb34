"""The network with everything before and after it, from pixels to a mask."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.errors import MedsegError, ModelError
from medseg.inference.bundle import Manifest
from medseg.inference.graph_weights import LEFT_OUT, PREFIX
from medseg.inference.network import Model
from medseg.inference.runtime import IMAGE, MASK, METADATA, PROBABILITIES
from medseg.inference.volumes.model import VolumeModel
from medseg.inference.volumes.runtime import LOGITS, WINDOW

OPSETS = range(18, 26)
"""18 is the first with antialiased resizing, 25 the last that PyTorch's exporter writes."""


class FileToMask(nn.Module):
    """From images as files hold them to class indices: what is exported.

    Args:
        model: trained.
    """

    # Operators of exporters bear the names mean and std.
    channel_mean: Tensor
    channel_std: Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        settings = model.manifest.preprocessing
        self.network = model.network
        self.size = settings.image_size
        self.temperature = model.manifest.temperature
        self.limit = math.log(model.manifest.threshold / (1 - model.manifest.threshold))
        self.register_buffer("channel_mean", torch.tensor(settings.mean).view(1, -1, 1, 1))
        self.register_buffer("channel_std", torch.tensor(settings.std).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """``(N, H, W, C)`` uint8 to ``(N, H, W)`` uint8 and ``(N, K, H, W)`` probabilities."""
        height, width = image.shape[1], image.shape[2]
        pixels = F.interpolate(
            image.permute(0, 3, 1, 2).float(),
            size=(self.size, self.size),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        pixels = (pixels / 255 - self.channel_mean) / self.channel_std
        logits = self.network(pixels) / self.temperature
        logits = F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
        if logits.shape[1] == 1:
            return (logits[:, 0] >= self.limit).to(torch.uint8), logits.sigmoid()
        return logits.argmax(dim=1).to(torch.uint8), logits.softmax(dim=1)


def to_onnx(model: Model, manifest: Manifest | None = None, *, opset: int = OPSETS[0]) -> bytes:
    """``model`` as an ONNX graph of any batch, height and width.

    Args:
        model: on the CPU.
        manifest: to be stored in the file; default: that of ``model``.
        opset: of ONNX, one of :data:`OPSETS`.

    Raises:
        MedsegError: another opset.
        ModelError: the network does something that ONNX, or this opset, cannot say.
    """
    manifest = manifest or model.manifest
    return _to_onnx(
        FileToMask(model).eval(),
        example(manifest),
        manifest,
        opset,
        **_PICTURES,
    )


def to_onnx_beside_weights(model: Model) -> bytes:
    """``model`` as an ONNX graph without the weights that its bundle holds anyway, a hundred times
    smaller; :func:`medseg.inference.graph_weights.complete` adds them.

    Batch norms are not folded into convolutions, so that weights are what the network has; ONNX
    Runtime folds them when it loads the graph.

    Args:
        model: on the CPU.

    Raises:
        ModelError: the network does something that ONNX cannot say.
    """
    from onnx import ModelProto, numpy_helper
    from onnxscript import optimizer

    def lean(program: Any) -> ModelProto:
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
        proto: ModelProto = program.model_proto
        weights = model.network.state_dict()
        names = []
        for tensor in list(proto.graph.initializer):
            name = tensor.name.removeprefix(PREFIX)
            if tensor.name.startswith(PREFIX) and name in weights:
                values = torch.from_numpy(numpy_helper.to_array(tensor).copy())
                if torch.equal(values, weights[name]) and values.dtype == torch.float32:
                    proto.graph.initializer.remove(tensor)
                    names.append(name)
        del proto.graph.value_info[:]
        for node in proto.graph.node:
            node.ClearField("metadata_props")
        entry = proto.metadata_props.add()
        entry.key, entry.value = LEFT_OUT, json.dumps(names)
        return proto

    return _to_onnx(
        FileToMask(model).eval(),
        example(model.manifest),
        model.manifest,
        OPSETS[0],
        finish=lean,
        optimize=False,
        **_PICTURES,
    )


def volume_to_onnx(model: VolumeModel, *, opset: int = OPSETS[0]) -> bytes:
    """The network of a model of volumes as an ONNX graph of one window.

    Args:
        model: on the CPU; its manifest is stored in the file.
        opset: of ONNX, one of :data:`OPSETS`.

    Raises:
        MedsegError: another opset.
        ModelError: the network does something that ONNX, or this opset, cannot say.
    """
    shape = (1, model.manifest.preprocessing.channels, *model.settings.patch)
    return _to_onnx(
        model.network,
        torch.zeros(shape),
        model.manifest,
        opset,
        input_names=[WINDOW],
        output_names=[LOGITS],
    )


_PICTURES: Mapping[str, Any] = {
    "input_names": [IMAGE],
    "output_names": [MASK, PROBABILITIES],
    "dynamic_shapes": ({0: "batch", 1: "height", 2: "width"},),
}


def _to_onnx(
    module: nn.Module,
    inputs: Tensor,
    manifest: Manifest,
    opset: int,
    finish: Callable[[Any], Any] = attrgetter("model_proto"),
    **options: Any,
) -> bytes:
    check_opset(opset)
    try:
        with quiet():
            program: Any = torch.onnx.export(
                module, (inputs,), dynamo=True, opset_version=opset, verbose=False, **options
            )
            proto = finish(program)
    except Exception as error:  # whatever a network of the user's own makes the exporter raise
        raise ModelError(
            manifest.system, f"it cannot be exported to ONNX ({first_line(error)})",
            "Try another --opset, or --format torchscript",
        ) from error  # fmt: skip
    (written,) = (each.version for each in proto.opset_import if each.domain in ("", "ai.onnx"))
    if written != opset:
        raise ModelError(
            f"--opset {opset}", f"{manifest.system} needs opset {written}", f"Use --opset {written}"
        )
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA, manifest.model_dump_json()
    return bytes(proto.SerializeToString())


def network_to_onnx(network: nn.Module, images: Tensor) -> bytes:
    """A network by itself, from ``images`` (B, C, H, W) to logits, for images of their size only.

    Raises:
        ModelError: the network does something that ONNX cannot say.
    """
    try:
        with quiet():
            program: Any = torch.onnx.export(
                network.eval(),
                (images,),
                dynamo=True,
                input_names=[IMAGE],
                output_names=["logits"],
                opset_version=OPSETS[0],
                verbose=False,
            )
        return bytes(program.model_proto.SerializeToString())
    except Exception as error:
        raise ModelError(
            type(network).__name__,
            f"it cannot be exported to ONNX ({first_line(error)})",
            "See what its forward does",
        ) from error


def check_opset(opset: int) -> None:
    """Raise a MedsegError unless ``opset`` is one of :data:`OPSETS`."""
    if opset not in OPSETS:
        found = "has no antialiased resizing" if opset < OPSETS[0] else "is not known to PyTorch"
        raise MedsegError(
            f"--opset {opset}", f"it {found}", f"Use one from {OPSETS[0]} to {OPSETS[-1]}"
        )


def example(manifest: Manifest) -> Tensor:
    """Two black images ``(2, 24, 40, C)``; no two of the axes that may vary are alike."""
    return torch.zeros(2, 24, 40, manifest.preprocessing.channels, dtype=torch.uint8)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of what exporters print, log and warn of reaches the user."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def first_line(error: Exception) -> str:
    """What ``error`` says, in a line."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__
