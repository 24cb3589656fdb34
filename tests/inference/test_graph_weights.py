from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from medseg.inference.graph_weights import PREFIX, complete, read_tensors
from medseg.inference.onnx_file import read_onnx

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, max_side=5)
WEIGHTS = st.dictionaries(
    st.text(min_size=1, max_size=6),
    arrays.arrays(np.float32, SHAPES, elements=st.floats(-9, 9, width=32)),
    min_size=1,
    max_size=4,
)


def bare() -> bytes:
    """A graph of a single node that wants a weight ``a``."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("image", "mask")
    ]
    node = helper.make_node("Add", ["image", f"{PREFIX}a"], ["mask"])
    graph = helper.make_graph([node], "bare", values[:1], values[1:])
    made = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    return bytes(made.SerializeToString())


def test_a_completed_graph_computes_with_the_weights() -> None:
    ort = pytest.importorskip("onnxruntime")
    graph = complete(bare(), '["a"]', save({"a": np.array([1, 2], np.float16)}))
    (found,) = ort.InferenceSession(graph).run(None, {"image": np.zeros(2, np.float32)})
    assert found.tolist() == [1, 2]


@given(WEIGHTS)
def test_the_package_onnx_reads_the_same_tensors(weights: dict[str, NDArray[np.float32]]) -> None:
    graph = onnx.load_from_string(complete(bare(), json.dumps(list(weights)), save(weights)))
    found = {each.name: numpy_helper.to_array(each) for each in graph.graph.initializer}
    assert found.keys() == {f"{PREFIX}{name}" for name in weights}
    for name, values in weights.items():
        np.testing.assert_array_equal(found[f"{PREFIX}{name}"], values)
    assert [node.op_type for node in graph.graph.node] == ["Add"]


def test_our_reader_of_graphs_takes_a_completed_one() -> None:
    assert read_onnx(complete(bare(), '["a"]', save({"a": np.ones(2, np.float32)}))).operations


@given(WEIGHTS)
def test_tensors_are_those_of_the_package_safetensors(
    weights: dict[str, NDArray[np.float32]],
) -> None:
    halves = {name: values.astype(np.float16) for name, values in weights.items()}
    for stored in (weights, halves):
        found = read_tensors(save({**stored, "\0count": np.array(3)}))
        assert found.keys() == stored.keys()
        for name, values in stored.items():
            np.testing.assert_array_equal(found[name], values)
            assert found[name].dtype == values.dtype


@pytest.mark.parametrize("left_out", ["{}", '["a", "a"]', '["b"]', "no json", "[1]", "[[1]]"])
def test_what_is_no_list_of_weights_is_refused(left_out: str) -> None:
    with pytest.raises(ValueError, match=r"weights|Expecting"):
        complete(bare(), left_out, save({"a": np.ones(2, np.float32)}))


@pytest.mark.parametrize(
    "header",
    [
        "[]",
        "{",
        '{"a": 1}',
        '{"a": {"dtype": "F32"}}',
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 400]}}',
        '{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}}',
    ],
)
def test_a_header_that_describes_no_tensors_is_a_value_error(header: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_tensors(len(header).to_bytes(8, "little") + header.encode() + bytes(4))


def test_weights_that_share_their_bytes_are_refused() -> None:
    entry = {"dtype": "F32", "shape": [100], "data_offsets": [0, 400]}
    header = json.dumps({f"a{number}": entry for number in range(100)}).encode()
    stored = len(header).to_bytes(8, "little") + header + bytes(400)
    names = json.dumps([f"a{number}" for number in range(100)])
    with pytest.raises(ValueError, match="share their bytes"):
        complete(bare(), names, stored)


@given(st.data())
def test_damaged_weights_are_a_value_error_or_harmless(data: st.DataObject) -> None:
    stored = bytearray(save({"a": np.ones((2, 3), np.float32)}))
    for _ in range(data.draw(st.integers(1, 3))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(stored)))
    try:
        found = read_tensors(bytes(stored[:cut]))
    except ValueError:
        return
    assert sum(each.nbytes for each in found.values()) <= len(stored)
