"""What an ONNX file says of itself, read before ONNX Runtime sees it and without the package onnx.

Only as much of Protocol Buffers as that takes: https://protobuf.dev/programming-guides/encoding.
The numbers are those of ``onnx.proto3``, https://github.com/onnx/onnx.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_BYTES = 2**31 - 1
"""What a message of Protocol Buffers may hold."""
MAX_FIELDS = 5_000_000
MAX_DEPTH = 64

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# Messages by the fields that lead to tensors, whose data could lie in another file.
CHILDREN = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}  # fmt: skip
METADATA, KEY, VALUE = 14, 1, 2
EXTERNAL_DATA, DATA_LOCATION = 13, 14
OPERATION = 4


@dataclass(frozen=True)
class OnnxFile:
    """What an ONNX file says of itself.

    Attributes:
        metadata: by key.
        operations: of all its nodes, without their domain.
    """

    metadata: dict[str, str]
    operations: set[str]


def read_onnx(graph: bytes) -> OnnxFile:
    """Read an ONNX file, all but its numbers.

    Raises:
        ValueError: damaged, or one of its tensors lies in another file, which would make ONNX
            Runtime read what the graph's maker names.
    """
    if len(graph) > MAX_BYTES:
        raise ValueError(f"{len(graph):,} bytes are more than ONNX allows")
    data = memoryview(graph)
    metadata: dict[str, str] = {}
    operations: set[str] = set()
    count = 0
    open_messages = [("model", data, 0)]
    while open_messages:
        kind, message, depth = open_messages.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"graphs nested more than {MAX_DEPTH} deep")
        for number, value in _fields(message):
            count += 1
            if count > MAX_FIELDS:
                raise ValueError(f"more than {MAX_FIELDS:,} fields")
            if kind == "tensor" and (
                number == EXTERNAL_DATA or (number == DATA_LOCATION and value != 0)
            ):
                raise ValueError("a tensor's data lie in another file")
            if isinstance(value, int):
                continue
            if number in CHILDREN[kind]:
                open_messages.append((CHILDREN[kind][number], value, depth + 1))
            elif kind == "node" and number == OPERATION:
                operations.add(bytes(value).decode())
            elif kind == "model" and number == METADATA:
                entry = {part: bytes(text).decode() for part, text in _fields(value)
                         if isinstance(text, memoryview)}  # fmt: skip
                metadata[entry.get(KEY, "")] = entry.get(VALUE, "")
    return OnnxFile(metadata, operations)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field; numbers of fixed width are not needed and given as 0."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        value: int | memoryview = 0
        if wire == VARINT:
            value, at = _varint(message, at)
        elif wire == BYTES:
            size, at = _varint(message, at)
            value = message[at : at + size]
            at += size
        elif wire in (FIXED64, FIXED32):
            at += 8 if wire == FIXED64 else 4
        else:
            raise ValueError("it is no ONNX file")
        if at > len(message) or number == 0:
            raise ValueError("it is cut off, or no ONNX file")
        yield number, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of at most 64 bits, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it is cut off, or no ONNX file")
