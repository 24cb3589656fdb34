"""What `pip install medseg[runtime]` gives: everything but what needs PyTorch.

The modules of the other extras are made impossible to import; tests/e2e/test_runtime_env.py does
the same in an environment that has none of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image

from commands import left_in
from data.builders import noise, save
from data.volumes import save_nifti
from inference.builders import bundle
from inference.graphs import bundle_with, graph, save_graph
from medseg.data.io import read_mask
from medseg.inference.predictor import load

# Commands in turn in one process; of each, its exit code and what it said on stderr.
SCRIPT = """
import io, json, sys
for module in sys.argv[1].split(","):
    sys.modules[module] = None
from contextlib import redirect_stderr, redirect_stdout
from medseg.cli import main
said = []
for line in json.loads(sys.argv[2]):
    sys.argv = ["medseg", *line]
    code, err = 0, io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    said.append((code, err.getvalue()))
print(json.dumps(said))
"""

OTHER_EXTRAS = (
    "torch", "scipy", "matplotlib", "jinja2", "safetensors", "accelerate", "onnx", "onnxscript",
    "openvino",
)  # fmt: skip


class Said(NamedTuple):
    code: int
    err: str


def without(modules: tuple[str, ...], *lines: list[object]) -> list[Said]:
    """Run `medseg LINE` for each line where none of ``modules`` can be imported."""
    arguments = [",".join(modules), json.dumps([[str(word) for word in line] for line in lines])]
    ran = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return [Said(*each) for each in json.loads(ran.stdout)]


def test_images_of_every_kind_are_predicted(tmp_path: Path) -> None:
    images = tmp_path / "in"
    save(images / "colour.png", noise(1, (20, 33)))
    save(images / "ward 3" / "grey.jpg", noise(2, (17, 40), channels=1))
    deep = noise(3, (24, 24), channels=1).astype(np.uint16) * 200
    Image.fromarray(deep).save(images / "sixteen.png")
    tifffile.imwrite(images / "slide.tif", noise(4, (30, 21)), compression="deflate")
    save_nifti(images / "scan.nii.gz", noise(5, (12, 9), channels=1)[:, :, None].repeat(4, axis=2))
    model = save_graph(tmp_path / "model.onnx")
    stored = bundle_with(tmp_path / "model.medseg", graph())
    everything = ["--overlay", "--probabilities", "--tta"]
    said = without(
        OTHER_EXTRAS,
        ["predict", model, images, "-o", tmp_path / "from graph"],
        ["predict", stored, images, "-o", tmp_path / "from bundle"],
        ["predict", stored, images, "-o", tmp_path / "more", *everything],
    )
    assert said == [(0, "")] * 3
    masks = {"colour.png", "ward 3/grey.png", "sixteen.png", "slide.png", "scan.nii.gz"}
    for out in ("from graph", "from bundle"):
        assert left_in(tmp_path / out) == masks | {"predictions.json"}
    assert {"overlay/colour.png", "probabilities/sixteen.npz"} <= left_in(tmp_path / "more")
    here = load(model)
    for name in ("colour.png", "sixteen.png"):
        found = read_mask(tmp_path / "from graph" / name).values
        assert np.array_equal(found, here.predict(images / name))


def test_verbs_that_need_no_network_work(photos: Path, tmp_path: Path) -> None:
    stored = bundle_with(tmp_path / "model.medseg", graph())
    lines: list[list[object]] = [
        ["--help"],
        ["predict", "--help"],
        ["train", "--help"],
        ["info", stored],
        ["info", photos],
        ["systems", "list"],
        ["data", "catalogue"],
        ["data", "check", photos],
        ["data", "split", photos, "-o", tmp_path / "split.csv"],
    ]
    assert without(OTHER_EXTRAS, *lines) == [(0, "")] * len(lines)


def test_verbs_that_need_pytorch_say_how_to_get_it(photos: Path, tmp_path: Path) -> None:
    plain = bundle(tmp_path / "plain.medseg")
    (tmp_path / "grid.yaml").write_text(f"systems: [unet]\ndata: [{photos}]\n")
    lines: list[list[object]] = [
        ["train", photos, "-o", tmp_path / "run"],
        ["data", "plan", photos],
        ["explain", plain, photos, "-o", tmp_path / "maps"],
        ["benchmark", tmp_path / "grid.yaml", "-o", tmp_path / "grid"],
        ["demo", "-o", tmp_path / "demo"],
        ["systems", "show", "unet"],
        ["predict", plain, photos, "-o", tmp_path / "out", "--engine", "torch"],
        ["predict", plain, photos, "-o", tmp_path / "out"],
    ]
    for line, said in zip(lines, without(OTHER_EXTRAS, *lines), strict=True):
        assert said.code == 2, (line, said)
        assert "pip install 'medseg[train]'" in said.err
        assert said.err.startswith("error: ")
        assert said.err.count("\n") == 1
    assert left_in(tmp_path) == {"plain.medseg", "grid.yaml"}


def test_with_neither_engine_the_smaller_one_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", noise(1))
    stored = bundle_with(tmp_path / "model.medseg", graph())
    for said in without(
        (*OTHER_EXTRAS, "onnxruntime"),
        ["predict", stored, path, "-o", tmp_path / "out"],
        ["predict", save_graph(tmp_path / "model.onnx"), path, "-o", tmp_path / "out"],
    ):
        assert said.code == 2
        assert "ONNX Runtime is needed and not installed. pip install 'medseg[runtime]'" in said.err
