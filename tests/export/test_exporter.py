from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from commands import left_in
from medseg.errors import MedsegError, ModelError
from medseg.export import exporter
from medseg.export.exporter import export, markdown
from medseg.export.formats import Format, open_artefact
from medseg.export.measure import Cost
from medseg.export.validation import Validation
from medseg.inference.bundle import (
    Golden,
    Postprocessing,
    read_bundle,
    read_card,
    read_golden,
    read_graph,
    write_bundle,
)
from medseg.inference.network import Model
from medseg.inference.predictor import load

from .conftest import noise

OUTPUTS: dict[Format, str] = {
    "onnx": "m.onnx",
    "openvino": "m.xml",
    "torchscript": "m.pt",
    "web": "page",
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, graph: bytes) -> None:
    """The graph is that of the fixture, with the model's manifest, and nothing is measured."""

    def to_onnx(model: Model, **_: object) -> bytes:
        stamped = onnx.load_from_string(graph)
        stamped.metadata_props[-1].value = model.manifest.model_dump_json()
        return bytes(stamped.SerializeToString())

    monkeypatch.setattr(exporter, "to_onnx", to_onnx)
    monkeypatch.setattr(exporter, "measure", lambda *_, **__: Cost(12.34, 10.0, 123.4))


def with_wrong_mask(organs: Path, path: Path, pixels: int) -> Path:
    """The bundle with ``pixels`` other pixels in the mask of its second golden case."""
    stored, cases = read_bundle(organs), list(read_golden(organs))
    classes = cases[1].classes.copy()
    classes.flat[:pixels] = (classes.flat[:pixels] + 1) % 3
    cases[1] = Golden(cases[1].image, classes)
    write_bundle(path, stored.manifest, stored.weights, golden=cases)
    return path


def test_an_onnx_file_is_the_graph_with_a_table_beside_it(
    organs: Path, graph: bytes, tmp_path: Path
) -> None:
    steps: list[str] = []
    done = export(organs, tmp_path / "new" / "m.onnx", format="onnx", progress=steps.append)
    assert left_in(tmp_path) == {"new/m.onnx", "new/m.onnx.md"}
    assert done.output.read_bytes() == graph
    assert done.proof == "3 golden cases of the model"
    assert [row.name for row in done.rows] == ["PyTorch", "ONNX Runtime, fp32"]
    assert done.rows[0].size_mb == organs.stat().st_size / 1e6
    assert done.rows[1].size_mb == len(graph) / 1e6
    assert steps == [
        "exporting the graph",
        "writing the file",
        "comparing masks on 3 golden cases of the model",
        "measuring time and memory",
    ]


def test_the_table_says_what_was_measured_and_what_was_not(organs: Path, tmp_path: Path) -> None:
    done = export(organs, tmp_path / "m.onnx", format="onnx")
    written = (tmp_path / "m.onnx.md").read_text(encoding="utf-8")
    assert written == markdown(done)
    size = f"{done.rows[1].size_mb:.2f}"
    assert f"| ONNX Runtime, fp32 | {size} | 12.3 | 123 | - |" in written
    assert "Masks compared on 3 golden cases of the model." in written
    height, width = read_golden(organs)[0].classes.shape
    assert f"({width} x {height}) to mask, {done.threads} thread" in written


def test_a_bundle_gets_the_graph_and_keeps_everything_else(
    organs: Path, graph: bytes, tmp_path: Path
) -> None:
    output = export(organs, tmp_path / "both.medseg", format="onnx").output
    assert read_graph(output) == graph
    assert read_bundle(output).weights == read_bundle(organs).weights
    assert read_card(output) == "# Noise\n"
    assert len(read_golden(output)) == 3
    image = noise((30, 50))
    with_torch, without = load(output, engine="torch"), load(output, engine="onnx")
    assert np.array_equal(with_torch.predict(image), without.predict(image))


def test_a_bundle_can_get_its_graph_in_place(organs: Path, graph: bytes, tmp_path: Path) -> None:
    model = tmp_path / "model.medseg"
    model.write_bytes(organs.read_bytes())
    export(model, model, format="onnx")
    assert read_graph(model) == graph


def test_an_earlier_graph_of_the_bundle_leaves_no_trace(
    organs: Path, graph: bytes, tmp_path: Path
) -> None:
    both = export(organs, tmp_path / "both.medseg", format="onnx").output
    assert export(both, tmp_path / "m.onnx", format="onnx").output.read_bytes() == graph


@pytest.mark.parametrize(
    ("format", "files"),
    [("openvino", {"m.xml", "m.bin", "m.xml.md"}), ("torchscript", {"m.pt", "m.pt.md"})],
)
def test_other_formats_are_whole_where_they_are_put(
    format: Format,  # noqa: A002
    files: set[str],
    organs: Path,
    model: Model,
    tmp_path: Path,
) -> None:
    done = export(organs, tmp_path / OUTPUTS[format], format=format)
    assert left_in(tmp_path) == files
    opened = open_artefact(done.output).predictor
    image = noise((30, 50))
    assert np.array_equal(opened.predict(image), model.predict(image))
    written = sum(file.stat().st_size for file in tmp_path.iterdir() if file.suffix != ".md")
    assert done.rows[1].size_mb == written / 1e6


@pytest.mark.parametrize("single", [False, True])
def test_a_page_is_written_as_a_folder_or_as_a_file(
    single: bool, organs: Path, graph: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.export import web

    def write_page(given: bytes, manifest: Any, output: Path, **options: Any) -> None:
        assert given == graph
        assert manifest == read_bundle(organs).manifest
        assert options["single_file"] == single
        assert options["card"] == "# Noise\n"
        assert len(options["golden"]) == 3
        if not single:
            output.mkdir()
            (output / "model.js").write_bytes(b"12")
        (output if single else output / "index.html").write_bytes(b"345")

    monkeypatch.setattr(web, "write_page", write_page)
    name = "page.html" if single else "page.v2"
    done = export(organs, tmp_path / name, format="web", single_file=single)
    expected = {"page.html"} if single else {f"{name}/index.html", f"{name}/model.js"}
    assert left_in(tmp_path) == {*expected, f"{name}.md"}
    assert done.rows[1].size_mb == (3 if single else 5) / 1e6


@pytest.mark.parametrize("format", OUTPUTS)
def test_where_one_pixel_flips_nothing_is_written(
    format: Format,  # noqa: A002
    organs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if format == "web":
        from medseg.export import web

        monkeypatch.setattr(web, "write_page", lambda *args, **_: args[2].mkdir())
    model = with_wrong_mask(organs, tmp_path / "m.medseg", 1)
    pixels = f"{read_golden(organs)[1].classes.size:,}"
    with pytest.raises(ModelError, match=rf"flips 1 of {pixels} pixels of case 1 \(at most"):
        export(model, tmp_path / "out" / OUTPUTS[format], format=format)
    assert left_in(tmp_path) == {"m.medseg"}


def test_an_earlier_export_outlives_one_that_fails(organs: Path, tmp_path: Path) -> None:
    export(organs, tmp_path / "m.onnx", format="onnx")
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    model = with_wrong_mask(organs, tmp_path / "m.medseg", 7)
    with pytest.raises(ModelError, match="flips 7 of"):
        export(model, tmp_path / "m.onnx", format="onnx")
    assert all(file.read_bytes() == content for file, content in before.items())


def test_without_golden_cases_synthetic_images_prove_the_export_and_it_says_so(
    organs: Path, tmp_path: Path
) -> None:
    stored = read_bundle(organs)
    write_bundle(tmp_path / "m.medseg", stored.manifest, stored.weights)
    done = export(tmp_path / "m.medseg", tmp_path / "m.onnx", format="onnx")
    assert done.proof == "3 synthetic images, as the model has no golden cases"
    assert done.proof in (tmp_path / "m.onnx.md").read_text(encoding="utf-8")


def test_without_golden_cases_data_prove_the_export_where_they_are_given(
    organs: Path, photos: Path, tmp_path: Path
) -> None:
    stored = read_bundle(organs)
    write_bundle(tmp_path / "m.medseg", stored.manifest, stored.weights)
    done = export(tmp_path / "m.medseg", tmp_path / "m.onnx", format="onnx", data=photos)
    assert done.proof == f"3 images of {photos}, as the model has no golden cases"
    assert done.notes == (
        f"Validation Dice was not measured: {tmp_path / 'm.medseg'} does not know how it was "
        "split.",
    )


def test_rules_for_components_are_said_to_lie_outside_the_graph(
    organs: Path, tmp_path: Path
) -> None:
    stored = read_bundle(organs)
    rules = {"postprocessing": Postprocessing(min_pixels=3)}
    manifest = stored.manifest.model_copy(update=rules)
    write_bundle(tmp_path / "m.medseg", manifest, stored.weights)
    (note,) = export(tmp_path / "m.medseg", tmp_path / "m.onnx", format="onnx").notes
    assert note.startswith("Components are cleaned by medseg after the graph")


class Scores:
    """Stands for a validation part on which PyTorch, fp32 and int8 have these Dice."""

    def __init__(self, *scores: float) -> None:
        self.scores = iter(scores)
        self.cases = ("one", "two")

    def dice(self, _: object) -> float:
        return next(self.scores)

    def calibration_images(self, _: int) -> Iterator[Any]:
        return iter([noise((30, 30), seed) for seed in range(4)])


def int8(organs: Path, output: Path, monkeypatch: pytest.MonkeyPatch, *scores: float,
         **options: Any) -> exporter.Export:  # fmt: skip
    monkeypatch.setattr(exporter, "_validation", lambda *_, **__: Scores(*scores))
    return export(organs, output, format="onnx", int8=True, data="anything", **options)


def test_int8_within_its_budget_is_written_and_smaller(
    organs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = int8(organs, tmp_path / "m.onnx", monkeypatch, 80.0, 80.0, 79.6)
    names = ["PyTorch", "ONNX Runtime, fp32", "ONNX Runtime, int8"]
    assert [(row.name, row.dice) for row in done.rows] == list(
        zip(names, (80, 80, 79.6), strict=True)
    )
    assert b"QuantizeLinear" in done.output.read_bytes()
    assert "| 79.60 |" in (tmp_path / "m.onnx.md").read_text(encoding="utf-8")


def test_int8_beyond_its_budget_is_refused_with_what_it_costs(
    organs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        ModelError,
        match=r"8 bits cost 0\.60 points of validation Dice \(80\.00 to 79\.40\), and the budget "
        r"is 0\.5\. Nothing was written",
    ):
        int8(organs, tmp_path / "m.onnx", monkeypatch, 80.0, 80.0, 79.4)
    assert left_in(tmp_path) == set()


def test_the_budget_can_be_set(
    organs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    int8(organs, tmp_path / "m.onnx", monkeypatch, 80.0, 80.0, 79.4, dice_budget=1.0)
    with pytest.raises(ModelError, match=r"the budget is 0\.25"):
        int8(organs, tmp_path / "n.onnx", monkeypatch, 80.0, 80.0, 79.6, dice_budget=0.25)


def test_int8_needs_the_data_the_model_was_trained_on(
    organs: Path, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(MedsegError, match=r"--int8: .*Give the dataset with --data"):
        export(organs, tmp_path / "m.onnx", format="onnx", int8=True)
    with pytest.raises(MedsegError, match=r"--data .*does not know how it was split"):
        export(organs, tmp_path / "m.onnx", format="onnx", int8=True, data=photos)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("m.pt", {}, r"-o m\.pt: it is not a name for --format onnx\. Name \.onnx or \.medseg"),
        ("m.onnx", {"format": "openvino"}, r"Name \.xml"),
        ("m", {"format": "torchscript"}, r"Name \.pt"),
        ("m.html", {"format": "web"}, "it names a file. Add --single-file, or name a folder"),
        ("M.ONNX", {}, r"Name \.onnx"),
        ("page", {"format": "web", "single_file": True}, r"Name \.html"),
        ("m.onnx", {"format": "onxn"}, r"onxn: there is no such format\. Did you mean 'onnx'"),
        ("m.onnx", {"opset": 17}, "--opset 17: it has no antialiased resizing"),
        ("m.onnx", {"opset": 99}, "--opset 99: it is not known to PyTorch"),
        ("m.pt", {"format": "torchscript", "opset": 18}, "--format torchscript has no opset"),
        ("m.onnx", {"single_file": True}, "--single-file: it is for --format web"),
        ("m.onnx", {"dice_budget": 1.0}, r"--dice-budget 1: it is what --int8 may cost"),
        ("m.onnx", {"int8": True, "data": ".", "dice_budget": -1.0}, "--dice-budget -1"),
        ("m.medseg", {"int8": True, "data": "."}, r"--int8: \.medseg files hold the model in full"),
        ("m.pt", {"int8": True, "data": ".", "format": "torchscript"}, r"--int8: \.pt files"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused_before_any_work(
    name: str, options: dict[str, Any], said: str, organs: Path, tmp_path: Path
) -> None:
    with pytest.raises(MedsegError, match=said.replace("-o m", r"-o .*m")):
        export(organs, tmp_path / name, **{"format": "onnx", **options})
    assert left_in(tmp_path) == set()


def test_a_folder_that_holds_files_is_not_replaced(organs: Path, tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "mine.txt").write_text("mine")
    (tmp_path / "m.onnx").mkdir()
    for name, format in (("page", "web"), ("m.onnx", "onnx")):  # noqa: A001
        with pytest.raises(MedsegError, match="it is a folder that is in use"):
            export(organs, tmp_path / name, format=format)  # type: ignore[arg-type]
    assert left_in(tmp_path) == {"page/mine.txt", "m.onnx"}


def test_a_pickle_and_a_graph_are_no_models_to_export(graph: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.pth").write_bytes(b"")
    (tmp_path / "m.onnx").write_bytes(graph)
    with pytest.raises(ModelError, match="a state dict has neither labels"):
        export(tmp_path / "m.pth", tmp_path / "out.onnx", format="onnx")
    with pytest.raises(ModelError, match="holds a graph and no network"):
        export(tmp_path / "m.onnx", tmp_path / "out.onnx", format="onnx")


def test_a_validation_part_is_scored_as_evaluate_scores_it(trained: Path, photos: Path) -> None:
    from medseg.export.validation import open_validation
    from medseg.scoring import evaluate

    validation = open_validation(photos, trained)
    found = validation.dice(load(trained))
    expected = evaluate(photos, trained, part="val").overall["dice"].mean
    assert expected is not None
    assert found == pytest.approx(100 * expected, abs=1e-9)


def test_calibration_images_are_of_the_training_part_and_always_the_same(
    trained: Path, photos: Path
) -> None:
    from commands import parts_of
    from medseg.data.io import read_image
    from medseg.export.validation import open_validation

    validation = open_validation(photos, trained)
    assert isinstance(validation, Validation)
    once, again = (list(validation.calibration_images(10**6)) for _ in range(2))
    names = sorted(parts_of(trained)["train"])
    files = {path.stem: path for path in (photos / "images").iterdir()}
    assert len(once) == len(names)
    for image, same, name in zip(once, again, names, strict=True):
        assert np.array_equal(image, same)
        assert np.array_equal(image, read_image(files[name]))


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.medseg: there is no such file"):
        export(tmp_path / "none.medseg", tmp_path / "m.onnx", format="onnx")


def test_a_model_of_a_python_file_is_exported_with_it(tmp_path: Path, organs: Path) -> None:
    stored = read_bundle(organs)
    manifest = stored.manifest.model_copy(update={"system": "mine.py"})
    write_bundle(tmp_path / "m.medseg", manifest, stored.weights)
    with pytest.raises(ModelError, match=r"its network is in the file mine\.py"):
        export(tmp_path / "m.medseg", tmp_path / "m.onnx", format="onnx")
