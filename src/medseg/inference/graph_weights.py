"""Graphs that take their numbers from the weights that lie beside them in a bundle.

A bundle then holds its weights once, for PyTorch and for ONNX Runtime, and neither the package
safetensors nor the package onnx is needed to put them together:
https://huggingface.co/docs/safetensors describes the one, ``onnx.proto3`` the other, and messages
of Protocol Buffers merge when they are written one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.inference.onnx_file import BYTES, VARINT

LEFT_OUT = "medseg.weights"
"""The key of a graph's metadata that names the weights it lacks, as JSON."""

PREFIX = "network."
"""Comes before a weight's name in the graph."""

_TYPES = {"F32": np.float32, "F16": np.float16}
_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9
_FLOAT = 1


def complete(graph: bytes, left_out: str, weights: bytes) -> bytes:
    """A graph with the weights that it lacks, in single precision.

    Args:
        graph: ONNX.
        left_out: what its metadata says under :data:`LEFT_OUT`.
        weights: safetensors.

    Raises:
        ValueError: the weights are damaged, or do not hold all that is named.
    """
    names = json.loads(left_out)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("the graph does not say which weights it lacks")
    if len(set(names)) != len(names):
        raise ValueError("the graph names weights twice")
    tensors = read_tensors(weights)
    if lacking := [name for name in names if name not in tensors]:
        raise ValueError(f"the graph needs weights that are not there, {lacking[0]!r} for one")
    if sum(tensors[name].nbytes for name in names) > len(weights):
        raise ValueError("weights share their bytes, and would fill the memory")
    return graph + b"".join(_initializer(name, tensors[name]) for name in names)


def read_tensors(data: bytes) -> Mapping[str, NDArray[Any]]:
    """Tensors of floating-point numbers in safetensors, others left out.

    Raises:
        ValueError: damaged.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 + size:
        raise ValueError("the weights are cut off")
    try:
        header = json.loads(data[8 : 8 + size])
        content = data[8 + size :]
        return {
            name: _tensor(content, entry)
            for name, entry in header.items()
            if entry["dtype"] in _TYPES
        }
    except (AttributeError, KeyError, RecursionError, TypeError) as error:
        raise ValueError("the weights are not described as safetensors are") from error


def _tensor(data: bytes, entry: Mapping[str, Any]) -> NDArray[Any]:
    first, last = entry["data_offsets"]
    if not 0 <= first <= last <= len(data):
        raise ValueError("a tensor lies outside the weights")
    return np.frombuffer(data[first:last], _TYPES[entry["dtype"]]).reshape(entry["shape"])


def _initializer(name: str, values: NDArray[Any]) -> bytes:
    """A model with a graph with a single tensor in it."""
    tensor = b"".join(
        (
            *(_number(_DIMS, side) for side in values.shape),
            _number(_DATA_TYPE, _FLOAT),
            _bytes(_NAME, f"{PREFIX}{name}".encode()),
            _bytes(_RAW_DATA, values.astype("<f4").tobytes()),
        )
    )
    return _bytes(_GRAPH, _bytes(_INITIALIZER, tensor))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | VARINT) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | BYTES) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
