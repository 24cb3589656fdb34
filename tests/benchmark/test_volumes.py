"""Systems of images and of volumes beside each other, on the same volumes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from benchmark.grids import GOOD, rows
from benchmark.synthetic import benchmark_folder
from commands import left_in, medseg
from data.builders import squares
from data.volumes import balls
from medseg import benchmark
from medseg.benchmark.check import check_spec
from medseg.benchmark.efficiency import measure
from medseg.benchmark.figures import pareto
from medseg.benchmark.reading import Results
from medseg.benchmark.runner import Grid
from medseg.benchmark.spec import parse_spec
from medseg.benchmark.tables import efficiency
from medseg.engine.train import train
from medseg.errors import MedsegError
from medseg.scoring import evaluate

DEEP = GOOD.replace("Conv2d", "Conv3d")
PATCH = ["data.dims=3", "data.patch=[8,8,8]", "data.patches_per_volume=1"]
NUMBERED = r"data.slices=(.+)_slice_(\d+)"


def spec(folder: Path, data: Path, **values: Any) -> dict[str, Any]:
    (folder / "flat.py").write_text(GOOD)
    (folder / "deep.py").write_text(DEEP)
    return {
        "systems": [
            {"system": str(folder / "flat.py"), "set": ["data.image_size=16"]},
            {"system": str(folder / "deep.py"), "set": PATCH},
        ],
        "data": [str(data)],
        "seeds": 1,
        "set": ["train.epochs=1", "train.batch_size=2"],
        **values,
    }


def picture_slices(root: Path, volumes: Iterable[int] = range(6), depth: int = 4) -> Path:
    """Pictures that are slices of volumes by their names, a square in each."""
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for volume in volumes:
        for index in range(depth):
            random = np.random.default_rng([volume, index])
            mask = np.zeros((16, 16), np.uint8)
            mask[4:10, 3 + volume : 9 + volume] = 255
            image = (random.integers(0, 60, mask.shape) + mask // 2).astype(np.uint8)
            name = f"v{volume}_slice_{index}.png"
            Image.fromarray(image).save(root / "images" / name)
            Image.fromarray(mask).save(root / "masks" / name)
    return root


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    folder = tmp_path_factory.mktemp("grid")
    values = spec(folder, balls(folder / "balls", 8))
    return benchmark.run(values, folder / "out", device="cpu", quiet=True, report=False)


def test_a_volume_is_one_case_for_systems_of_both_kinds(grid: Grid) -> None:
    assert [record["status"] for record in grid.records] == ["ok", "ok"]
    cells = [grid.folder / "cells" / name / "balls" / "seed-0" for name in ("flat", "deep")]
    flat, deep = ([row["case"] for row in rows(cell / "test.csv")] for cell in cells)
    assert flat == deep
    assert len(flat) == grid.summary["data"]["balls"]["cases"]["test"] == 1
    assert all("slice" not in case for case in flat)
    assert len({(cell / "run" / "split.csv").read_bytes() for cell in cells}) == 1


def test_a_cell_says_the_window_that_it_was_trained_on(grid: Grid) -> None:
    flat, deep = (
        json.loads((grid.folder / "cells" / name / "balls/seed-0/cell.json").read_text())
        for name in ("flat", "deep")
    )
    assert (flat["patch"], flat["image_size"], deep["patch"]) == (None, 16, [8, 8, 8])


def test_a_model_of_images_is_scored_on_volumes_where_pictures_are_slices(tmp_path: Path) -> None:
    data = picture_slices(tmp_path / "slices")
    (tmp_path / "flat.py").write_text(GOOD)
    system = str(tmp_path / "flat.py")
    run = train(
        data, system=system, output=tmp_path / "run", device="cpu", quiet=True,
        epochs=1, image_size=16, settings=[NUMBERED],
    )  # fmt: skip
    found = evaluate(data, run.folder, part="all", system=system, masks=tmp_path / "masks")
    assert [row.case for row in found.rows] == [f"v{volume}" for volume in range(6)]
    assert found.rows[0].truth_pixels == 4 * 36
    assert sorted(path.name for path in (tmp_path / "masks").glob("*.tif")) == [
        f"v{volume}.tif" for volume in range(6)
    ]


def test_pictures_of_other_names_are_scored_by_themselves(tmp_path: Path) -> None:
    data = picture_slices(tmp_path / "slices", range(2))
    (tmp_path / "flat.py").write_text(GOOD)
    system = str(tmp_path / "flat.py")
    run = train(
        data, system=system, output=tmp_path / "run", device="cpu", quiet=True,
        epochs=1, image_size=16, settings=[NUMBERED],
    )  # fmt: skip
    others = squares(tmp_path / "others", 3)
    found = evaluate(others, run.folder, system=system)
    assert [row.case for row in found.rows] == ["000", "001", "002"]
    ran = medseg("predict", run.folder, data / "images" / "v1_slice_2.png", "-o",
                 tmp_path / "masks", "--system", system)  # fmt: skip
    assert ran.code == 0, ran.message
    assert left_in(tmp_path / "masks") == {"v1_slice_2.png", "predictions.json"}


def test_pictures_are_refused_before_training_where_a_system_takes_volumes(
    tmp_path: Path, photos: Path
) -> None:
    _, checked, _ = check_spec(parse_spec(spec(tmp_path, photos)), Console(quiet=True))
    assert "is a picture, and deep is trained on volumes" in checked["photos"].error
    assert "data.slices" in checked["photos"].error


def test_one_system_alone_cannot_have_other_cases(tmp_path: Path) -> None:
    values = spec(tmp_path, tmp_path)
    values["systems"][1]["set"] = [*PATCH, NUMBERED]
    with pytest.raises(MedsegError, match=r"deep: set: data.slices: it would give systems"):
        parse_spec(values)


def test_a_network_of_volumes_is_measured_on_one_window(tmp_path: Path) -> None:
    (tmp_path / "deep.py").write_text(DEEP)
    path = str(tmp_path / "deep.py")
    found = measure(path, image_size=12, patch=(8, 10, 12), channels=1, classes=2, runs=2)
    assert found.macs == 8 * 10 * 12 * (4 * 27 + 4 * 2)
    assert found.patch == (8, 10, 12)
    assert found.onnx_note == ""
    assert found.batch_size == 2


def measured_on_windows(folder: Path, patch: Any) -> Path:
    """A benchmark's folder in which ``unet`` is a system of volumes."""
    out = benchmark_folder(folder / "out", data=["glas"], unseen=[], seeds=[0])
    path = out / "efficiency" / "unet.json"
    said = {**json.loads(path.read_text()), "patch": patch, "batch_size": 2}
    path.write_text(json.dumps(said))
    return out


def test_tables_and_figures_say_what_was_measured_on_a_window(tmp_path: Path) -> None:
    results = Results.read(measured_on_windows(tmp_path, [8, 16, 24]))
    table = efficiency(results)
    assert "or one window of 8 x 16 x 24 voxels for systems of volumes" in table.caption
    assert "a step on 2 images or windows." in table.caption
    patches = {record["system"]: record["patch"] for record in table.records}
    assert patches["unet"] == "8 x 16 x 24"
    assert patches["med2d-segnet"] is None
    assert "Of unet it is that of a window of a volume" in pareto.draw(results, "latency").caption
    assert "window" not in pareto.draw(results, "parameters").caption


def test_a_damaged_window_is_named(tmp_path: Path) -> None:
    with pytest.raises(MedsegError, match=r"unet.json: its patch is 'wide'"):
        Results.read(measured_on_windows(tmp_path, "wide"))
