from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from data.builders import noise, save
from inference.builders import ORGANS, bundle, manifest_and_weights
from inference.graphs import (
    IMAGES,
    MASKS,
    SHARES,
    bright,
    bundle_with,
    constant,
    graph,
    in_another_file,
    model,
    replaced,
    save_graph,
)
from medseg.errors import MedsegError, ModelError
from medseg.export.graph import to_onnx
from medseg.inference.files import predict_files
from medseg.inference.network import load_network
from medseg.inference.onnx_file import read_onnx
from medseg.inference.predictor import FLIPS, load
from medseg.inference.runtime import (
    MASK,
    PROBABILITIES,
    OnnxModel,
    load_onnx,
    manifest_of_graph,
    open_session,
)

IMAGE = noise(1, (20, 33))


def refusal(content: bytes, folder: Path) -> ModelError:
    """How a graph is refused, at the latest when it is used, as a file and in a bundle."""
    path = folder / "model.onnx"
    path.write_bytes(content)
    caught = []
    for source in (path, bundle_with(folder / "model.medseg", content)):
        with pytest.raises(ModelError) as each:
            load(source, engine="onnx").predict(IMAGE)
        assert each.value.where == str(source)
        assert "\n" not in str(each.value)
        caught.append(each.value)
    return caught[0]


def test_a_graph_gives_its_mask_and_probabilities(tmp_path: Path) -> None:
    found = load(save_graph(tmp_path / "model.onnx"))
    share = IMAGE.mean(axis=2) / 255
    assert np.allclose(found.predict_probabilities(IMAGE)[0], share, atol=1e-6)
    assert np.array_equal(found.predict(IMAGE) == 255, share >= 0.5)


def test_grey_images_are_repeated_for_a_model_of_colour(tmp_path: Path) -> None:
    found = load(save_graph(tmp_path / "model.onnx"))
    grey = noise(2, (9, 7), channels=1)
    assert np.array_equal(found.predict(grey), found.predict(np.stack([grey] * 3, axis=2)))


def test_averaging_over_flips_takes_the_mean_of_the_probabilities(tmp_path: Path) -> None:
    found = load(bundle_with(tmp_path / "model.medseg", exported()), engine="onnx")
    views = [
        np.flip(
            found.predict_probabilities(
                np.ascontiguousarray(np.flip(IMAGE, tuple(a - 1 for a in axes)))
            ),
            axes,
        )
        for axes in FLIPS
    ]
    assert np.array_equal(
        found.predict_probabilities(IMAGE, tta=True), np.stack(views).mean(axis=0)
    )


@cache
def exported() -> bytes:
    """A network of convolutions as `medseg export` writes it."""
    with TemporaryDirectory() as folder:
        path = bundle(Path(folder) / "model.medseg")
        return to_onnx(load_network(path, device="cpu"))


@pytest.mark.parametrize("shape", [(20, 33), (1, 1), (64, 64), (57, 31)])
def test_both_engines_give_the_same_mask(tmp_path: Path, shape: tuple[int, int]) -> None:
    path = bundle_with(tmp_path / "model.medseg", exported())
    image = noise(3, shape)
    torch, onnx = (load(path, engine=engine, device="cpu") for engine in ("torch", "onnx"))
    assert (torch.engine, onnx.engine) == ("torch", "onnx")
    assert np.array_equal(torch.predict(image), onnx.predict(image))
    assert np.allclose(
        torch.predict_probabilities(image), onnx.predict_probabilities(image), atol=1e-5
    )


def test_the_metadata_are_those_that_onnx_runtime_reads() -> None:
    stored = open_session(exported()).get_modelmeta().custom_metadata_map
    assert read_onnx(exported()).metadata == stored


def test_a_graph_of_no_model_of_medseg_is_refused(tmp_path: Path) -> None:
    assert "not exported by medseg" in str(refusal(graph(metadata=""), tmp_path))


@pytest.mark.parametrize("text", ["{", "[]", "{}", "[" * 100_000, '{"format": 3}', '"\\ud800"'])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    refusal(graph(metadata=text), tmp_path)


WRONG: dict[str, Any] = {
    "another input": lambda: model(
        [helper.make_node("Identity", ["picture"], ["image"]), *bright()],
        inputs=[("picture", *IMAGES[1:])],
    ),
    "a second input": lambda: model(inputs=[IMAGES, ("more", TensorProto.FLOAT, [1])]),
    "floats": lambda: model(
        replaced("float", helper.make_node("Identity", ["image"], ["float"])),
        inputs=[("image", TensorProto.FLOAT, ["n", "h", "w", 3])],
    ),
    "another order of axes": lambda: model(
        inputs=[("image", TensorProto.UINT8, ["n", "h", "w", "c"])]
    ),
    "grey": lambda: model(inputs=[("image", TensorProto.UINT8, ["n", "h", "w", 1])]),
    "one size only": lambda: model(
        inputs=[("image", TensorProto.UINT8, [1, 20, 33, 3])],
        outputs=[(MASK, TensorProto.UINT8, [1, 20, 33]), SHARES],
    ),
    "no probabilities": lambda: model(outputs=[MASKS]),
    "a third output": lambda: model(
        outputs=[MASKS, SHARES, ("share", TensorProto.FLOAT, ["n", "h", "w"])]
    ),
    "a mask of another type": lambda: model(
        replaced(MASK, helper.make_node("Cast", ["reached"], [MASK], to=TensorProto.INT64)),
        outputs=[(MASK, TensorProto.INT64, ["n", "h", "w"]), SHARES],
    ),
    "a mask of another rank": lambda: model(
        replaced(MASK, constant("one", np.array([1], np.int64)),
                 helper.make_node("Cast", ["reached"], ["flat"], to=TensorProto.UINT8),
                 helper.make_node("Unsqueeze", ["flat", "one"], [MASK])),
        outputs=[(MASK, TensorProto.UINT8, ["n", 1, "h", "w"]), SHARES],
    ),
    "another number of classes": lambda: model(metadata=manifest_and_weights(ORGANS)[0]),
    "another number of channels": lambda: model(metadata=manifest_and_weights(channels=1)[0]),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_graph_that_takes_or_gives_something_else_is_refused_when_it_is_loaded(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(WRONG[kind]().SerializeToString())
    with pytest.raises(ModelError, match="Export it again"):
        load(path)


def pixels(values: list[int]) -> Any:
    return numpy_helper.from_array(np.array(values, np.uint8).reshape(1, -1, 1), "given")


LYING: dict[str, Any] = {
    "a mask of another size": lambda: model(
        replaced(MASK, helper.make_node("Identity", ["given"], [MASK])),
        initializers=[pixels([0, 1, 1])],
    ),
    "a class that no label has": lambda: model(
        replaced(MASK, constant("seven", np.array(7, np.uint8)),
                 helper.make_node("Cast", ["reached"], ["flat"], to=TensorProto.UINT8),
                 helper.make_node("Mul", ["flat", "seven"], [MASK]))
    ),
    "an unknown operation": lambda: model(
        replaced(MASK, helper.make_node("Steal", ["reached"], [MASK], domain="evil")),
        domains=["evil"],
    ),
    "more memory than there is": lambda: model(
        [*bright()[:-2],
         constant("huge", np.array([1 << 20, 1 << 20, 1 << 10], np.int64)),
         helper.make_node("Expand", ["share", "huge"], ["much"]),
         helper.make_node("GreaterOrEqual", ["much", "limit"], ["reached"]),
         helper.make_node("Cast", ["reached"], [MASK], to=TensorProto.UINT8)]
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", LYING)
def test_a_graph_that_does_something_else_is_refused_when_it_is_used(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    refusal(LYING[kind]().SerializeToString(), tmp_path)
    assert capfd.readouterr() == ("", "")


def outside(kind: str, location: str) -> bytes:
    """A graph with a tensor in another file, in each place where a tensor may be."""
    values = in_another_file(numpy_helper.from_array(np.zeros(3, np.float32), "far"), location)
    proto = model()
    if kind == "initializer":
        proto.graph.initializer.append(values)
    elif kind == "constant":
        proto.graph.node.append(helper.make_node("Constant", [], ["far"], value=values))
    elif kind == "list":
        proto.graph.node.append(
            helper.make_node("Constant", [], ["far"], domain="x", values=[values])
        )
    elif kind == "sparse":
        indices = numpy_helper.from_array(np.zeros(3, np.int64))
        proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [9]))
    elif kind == "branch":
        inner = helper.make_graph([], "inner", [], [], initializer=[values])
        condition = constant("condition", np.array(True))
        branch = helper.make_node(
            "If", ["condition"], ["far"], then_branch=inner, else_branch=inner
        )
        proto.graph.node.extend([condition, branch])
    elif kind == "function":
        node = helper.make_node("Constant", [], ["far"], value=values)
        proto.functions.append(
            helper.make_function("own", "f", [], ["far"], [node], [helper.make_opsetid("", 18)])
        )
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize(
    "kind", ["initializer", "constant", "list", "sparse", "branch", "function"]
)
def test_a_graph_that_reads_other_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(12))
    monkeypatch.chdir(tmp_path)
    for location in ("weights.bin", "/etc/passwd", "*/_ORT_MEM_ADDR_/*"):
        error = refusal(outside(kind, location), tmp_path)
        assert "another file" in str(error)


def test_graphs_in_graphs_without_end_are_refused() -> None:
    content = b""
    for _ in range(200):  # a graph (6) in an attribute (5) of a node (1)
        for number in (6, 5, 1):
            size = len(content)
            content = bytes([number << 3 | 2, size & 127 | 128, size >> 7]) + content
    size = len(content)
    with pytest.raises(ValueError, match="deep"):
        read_onnx(bytes([7 << 3 | 2, size & 127 | 128, size >> 7]) + content)


TINY = graph()


def never_more_than_a_model_error(content: bytes) -> None:
    try:
        manifest = manifest_of_graph(Path("model.onnx"), content)
        OnnxModel(manifest, content, threads=1).predict(IMAGE)
    except ModelError:
        pass


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ModelError):
        manifest_of_graph(Path("model.onnx"), content)


@given(st.integers(0, len(TINY) - 1))
def test_a_file_cut_off_is_refused_or_whole(end: int) -> None:
    never_more_than_a_model_error(TINY[:end])


@given(st.lists(st.tuples(st.integers(0, len(TINY) - 1), st.integers(0, 255)), max_size=8))
def test_damaged_bytes_are_refused_or_do_not_matter(changes: list[tuple[int, int]]) -> None:
    content = bytearray(TINY)
    for at, value in changes:
        content[at] = value
    never_more_than_a_model_error(bytes(content))


@pytest.mark.parametrize(
    ("name", "value"),
    [("threshold", 0.7), ("temperature", 2.0), ("weights_sha256", "0" * 64)],
)
def test_a_bundle_with_the_graph_of_another_model_is_refused(
    tmp_path: Path, name: str, value: object
) -> None:
    other = manifest_and_weights()[0].model_copy(update={name: value})
    path = bundle_with(tmp_path / "model.medseg", graph(metadata=other))
    with pytest.raises(ModelError, match=f"another model .{name} differs"):
        load_onnx(path)


def test_a_bundle_without_a_graph_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="medseg export"):
        load(bundle(tmp_path / "model.medseg"), engine="onnx")


def test_a_graph_has_no_network_for_pytorch(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no network"):
        load(save_graph(tmp_path / "model.onnx"), engine="torch")


@pytest.mark.parametrize("options", [{"device": "cuda:0"}, {"precision": "bf16"}])
def test_onnx_runtime_computes_on_the_cpu_in_fp32(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="CPU in fp32"):
        load(save_graph(tmp_path / "model.onnx"), **options)  # type: ignore[arg-type]


def test_an_unknown_engine_is_named(tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match="--engine tensorrt"):
        load(save_graph(tmp_path / "model.onnx"), engine="tensorrt")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["none.onnx", "none.medseg", "none"])
def test_a_model_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match="there is no such file"):
        load(tmp_path / name)


@pytest.mark.parametrize("threads", ["2,1", "many", "", "-1", "0"])
def test_whatever_stands_for_the_threads_in_the_environment_a_graph_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert load(save_graph(tmp_path / "model.onnx")).predict(IMAGE).shape == (20, 33)


def test_the_manifest_of_a_graph_needs_no_onnx_runtime(tmp_path: Path) -> None:
    manifest = manifest_and_weights()[0]
    assert manifest_of_graph(tmp_path / "model.onnx", graph()) == manifest
    assert json.loads(read_onnx(graph()).metadata["medseg"]) == json.loads(
        manifest.model_dump_json()
    )


def quantised() -> bytes:
    """:func:`bright` with pixels rounded to 8 bits of another scale on their way."""
    scale = constant("scale", np.array(2, np.float32))
    zero = constant("zero", np.array(0, np.uint8))
    there = helper.make_node("QuantizeLinear", ["float", "scale", "zero"], ["coarse"])
    back = helper.make_node("DequantizeLinear", ["coarse", "scale", "zero"], ["float 2"])
    nodes = bright()
    at = next(i for i, node in enumerate(nodes) if "float" in node.output) + 1
    nodes[at].input[0] = "float 2"
    return graph([*nodes[:at], scale, zero, there, back, *nodes[at:]])


def test_masks_of_another_precision_are_not_mixed_in(tmp_path: Path) -> None:
    image = save(tmp_path / "a.png", IMAGE)
    (tmp_path / "8bit.onnx").write_bytes(quantised())
    whole, coarse = load(save_graph(tmp_path / "model.onnx")), load(tmp_path / "8bit.onnx")
    assert (whole.precision, coarse.precision) == ("fp32", "int8")
    predict_files(whole, [image], tmp_path / "out")
    with pytest.raises(MedsegError, match="--overwrite"):
        predict_files(coarse, [image], tmp_path / "out")


def test_masks_of_both_engines_may_be_mixed_and_both_are_noted(tmp_path: Path) -> None:
    path = bundle_with(tmp_path / "model.medseg", exported())
    for number, engine in enumerate(("torch", "onnx")):
        model = load(path, engine=engine, device="cpu")  # type: ignore[arg-type]
        images = [save(tmp_path / "in" / f"{i}.png", noise(i)) for i in range(number + 1)]
        predict_files(model, images, tmp_path / "out")
        note = json.loads((tmp_path / "out" / "predictions.json").read_text())
        assert note["engines"] == [["torch"], ["onnx", "torch"]][number]


def test_probabilities_and_mask_may_disagree_only_by_the_threshold(tmp_path: Path) -> None:
    manifest = manifest_and_weights()[0].model_copy(update={"threshold": 0.25})
    content = graph(bright(0.25), metadata=manifest)
    (tmp_path / "model.onnx").write_bytes(content)
    found = load(tmp_path / "model.onnx")
    shares = found.predict_probabilities(IMAGE)
    assert np.array_equal(found.predict(IMAGE) == 255, shares[0] >= 0.25)
    assert SHARES[0] == PROBABILITIES
