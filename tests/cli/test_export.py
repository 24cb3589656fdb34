from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import left_in, medseg


@pytest.fixture(scope="module")
def exported(trained: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a graph, and what the command said of it in ``said.txt``."""
    folder = tmp_path_factory.mktemp("exported")
    ran = medseg("export", trained, "-o", folder / "m.medseg", "--data", photos)
    assert ran.code == 0, ran.err
    (folder / "out.txt").write_text(ran.out, encoding="utf-8")
    (folder / "err.txt").write_text(ran.err, encoding="utf-8")
    return folder


def test_a_user_sees_a_line_for_each_step_and_a_table(exported: Path) -> None:
    assert (exported / "err.txt").read_text(encoding="utf-8").splitlines() == [
        "exporting the graph ...",
        "writing the file ...",
        "comparing masks on 2 golden cases of the model ...",
        "scoring 2 validation cases ...",
        "measuring time and memory ...",
    ]
    out = (exported / "out.txt").read_text(encoding="utf-8")
    for word in ("PyTorch", "ONNX Runtime, fp32", "Peak memory, MB", "Validation Dice"):
        assert word in out
    assert f"Wrote {exported / 'm.medseg'} and m.medseg.md" in out


def test_both_engines_have_the_same_validation_dice(exported: Path) -> None:
    table = (exported / "m.medseg.md").read_text(encoding="utf-8").splitlines()
    rows = list(csv.reader((line.strip("| ") for line in table if line.startswith("|")),
                           delimiter="|"))  # fmt: skip
    torch, onnx = rows[2:]
    assert float(torch[-1]) == float(onnx[-1]) > 0


def test_a_bundle_with_a_graph_gives_the_same_files_with_both_engines(
    exported: Path, photos: Path, tmp_path: Path
) -> None:
    for engine in ("torch", "onnx"):
        ran = medseg(
            "predict", exported / "m.medseg", photos / "images", "-o", tmp_path / engine,
            "--engine", engine,
        )  # fmt: skip
        assert ran.code == 0, ran.err
    masks = sorted(path.name for path in (tmp_path / "torch").glob("*.png"))
    assert len(masks) == 20
    for name in masks:
        with Image.open(tmp_path / "torch" / name) as a, Image.open(tmp_path / "onnx" / name) as b:
            assert np.array_equal(np.asarray(a), np.asarray(b))


def test_a_failed_proof_ends_with_exit_code_2_and_no_file(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medseg.export import formats

    original = formats.GraphModel.compute

    def spoilt(self: formats.GraphModel, *args: object, **options: object) -> object:
        for found in original(self, *args, **options):  # type: ignore[arg-type]
            found.classes[0, 0] = 1 - found.classes[0, 0]
            yield found

    monkeypatch.setattr(formats.GraphModel, "compute", spoilt)
    ran = medseg(
        "export", exported / "m.medseg", "--format", "torchscript", "-o", tmp_path / "m.pt"
    )
    assert ran.code == 2
    assert "it flips 1 of 576 pixels of case 0 (at most" in ran.message
    assert "Nothing was written" in ran.message
    assert left_in(tmp_path) == set()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-o", "m.png"), "-o m.png: it is not a name for --format onnx"),
        (("-o", "m.onnx", "--opset", "9"), "--opset 9: it has no antialiased resizing"),
        (("-o", "m.onnx", "--int8"), "Give the dataset with --data"),
        (("-o", "m.onnx", "--data", "nowhere"), "nowhere"),
    ],
)
def test_what_does_not_fit_is_one_line(
    arguments: tuple[str, ...], said: str, trained: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    ran = medseg("export", trained, *arguments)
    assert ran.code == 2
    assert said in ran.message
    assert len(ran.err.splitlines()) == 1
    assert left_in(tmp_path) == set()


def test_a_run_that_has_not_finished_is_no_model(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(trained / "recipe.yaml", run)
    ran = medseg("export", run, "-o", tmp_path / "m.onnx")
    assert ran.code == 2
    assert "has not finished" in ran.message


@pytest.mark.slow
@pytest.mark.parametrize(("format", "name"), [("onnx", "m.onnx"), ("openvino", "m.xml")])
def test_int8_is_calibrated_scored_and_written(
    format: str, name: str, trained: Path, photos: Path, tmp_path: Path  # noqa: A002
) -> None:  # fmt: skip
    ran = medseg(
        "export", trained, "--format", format, "--int8", "--data", photos, "--dice-budget", 50,
        "-o", tmp_path / name,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "int8" in ran.out
    assert (tmp_path / name).is_file()
