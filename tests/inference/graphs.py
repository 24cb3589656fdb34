"""Small ONNX graphs made by hand, some of them not what they should be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from inference.builders import manifest_and_weights
from medseg.inference.bundle import Manifest, write_bundle
from medseg.inference.runtime import IMAGE, MASK, METADATA, PROBABILITIES

IMAGES = (IMAGE, TensorProto.UINT8, ["n", "h", "w", 3])
MASKS = (MASK, TensorProto.UINT8, ["n", "h", "w"])
SHARES = (PROBABILITIES, TensorProto.FLOAT, ["n", 1, "h", "w"])

Value = tuple[str, int, list[Any]]


def bright(at: float = 0.5) -> list[Any]:
    """Nodes that take the mean of the channels for the probability and ``at`` for the threshold."""
    return [
        constant("axes", np.array([3], np.int64)),
        constant("axis", np.array([1], np.int64)),
        constant("white", np.array(255, np.float32)),
        constant("limit", np.array(at, np.float32)),
        helper.make_node("Cast", [IMAGE], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "white"], ["share"]),
        helper.make_node("Unsqueeze", ["share", "axis"], [PROBABILITIES]),
        helper.make_node("GreaterOrEqual", ["share", "limit"], ["reached"]),
        helper.make_node("Cast", ["reached"], [MASK], to=TensorProto.UINT8),
    ]


def constant(name: str, value: Any) -> Any:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def replaced(output: str, *nodes: Any) -> list[Any]:
    """:func:`bright` with ``nodes`` in place of the one that gives ``output``."""
    return [*(each for each in bright() if output not in each.output), *nodes]


def model(
    nodes: Sequence[Any] | None = None,
    *,
    inputs: Sequence[Value] = (IMAGES,),
    outputs: Sequence[Value] = (MASKS, SHARES),
    metadata: str | Manifest | None = None,
    initializers: Sequence[Any] = (),
    domains: Sequence[str] = (),
) -> Any:
    """An ONNX model; by default one that takes bright pixels for the object."""
    proto = helper.make_model(
        helper.make_graph(
            list(bright() if nodes is None else nodes),
            "by hand",
            [helper.make_tensor_value_info(*each) for each in inputs],
            [helper.make_tensor_value_info(*each) for each in outputs],
            initializer=list(initializers),
        ),
        opset_imports=[
            helper.make_opsetid("", 18),
            *(helper.make_opsetid(each, 1) for each in domains),
        ],
        ir_version=10,
    )
    manifest = manifest_and_weights()[0] if metadata is None else metadata
    if manifest != "":
        text = manifest if isinstance(manifest, str) else manifest.model_dump_json()
        helper.set_model_props(proto, {METADATA: text})
    return proto


def graph(*args: Any, **options: Any) -> bytes:
    """:func:`model` as a file holds it."""
    return bytes(model(*args, **options).SerializeToString())


def save_graph(path: Path, *args: Any, **options: Any) -> Path:
    """Write :func:`graph`."""
    path.write_bytes(graph(*args, **options))
    return path


def bundle_with(path: Path, content: bytes) -> Path:
    """A bundle that holds the graph ``content``."""
    write_bundle(path, *manifest_and_weights(), graph=content)
    return path


def in_another_file(values: onnx.TensorProto, location: str) -> onnx.TensorProto:
    """``values`` as a reference to the file ``location``."""
    values.ClearField("raw_data")
    values.data_location = TensorProto.EXTERNAL
    entry = values.external_data.add()
    entry.key, entry.value = "location", location
    return values
