from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from PIL import Image

from benchmark.grids import cell, named_in, tiny
from medseg import benchmark
from medseg.benchmark import runner
from medseg.benchmark.page import write_report
from medseg.benchmark.runner import Grid
from medseg.benchmark.spec import parse_spec
from medseg.errors import MedsegError


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seeds": [0, 1, 2]}, "seeds"),
        ({"set": ["train.epochs=3"]}, "set"),
        ({"metrics": ["dice"]}, "metrics"),
        ({"unseen": []}, "unseen"),
        ({"convention": "monai"}, "convention"),
    ],
    ids=str,
)
def test_a_folder_of_another_spec_is_refused(
    grid: Grid, copied: Path, change: dict[str, Any], named: str
) -> None:
    with pytest.raises(MedsegError, match=rf"another benchmark, which differs in {named}\b"):
        benchmark.run(parse_spec({**grid.spec.dump(), **change}), copied, quiet=True, report=False)


def test_a_results_folder_names_no_folder_of_this_machine(
    grid: Grid, copied: Path, photos: Path, tmp_path: Path
) -> None:
    code = [Path(sys.prefix), Path(runner.__file__).parents[2], Path(json.__file__).parent]
    places = [grid.folder, photos.parent, tmp_path, *code]
    assert named_in(grid.folder, places) == []
    write_report(copied)
    assert named_in(copied, places) == []
    log = (cell(grid, "bad", 0) / "log.txt").read_text()
    assert 'File ".../medseg/benchmark/cell.py"' in log


def test_a_results_folder_that_is_moved_with_its_data_goes_on(photos: Path, tmp_path: Path) -> None:
    for name in ("here", "there"):
        shutil.copytree(photos, tmp_path / name / "photos")
    values = tiny(tmp_path / "here", data=str(tmp_path / "here" / "photos"))
    out = tmp_path / "here" / "out"
    benchmark.run(values, out, device="cpu", quiet=True, report=False)
    moved = out.rename(tmp_path / "there" / "out")
    shutil.move(tmp_path / "here" / "good.py", tmp_path / "there" / "good.py")
    shutil.rmtree(tmp_path / "here")
    before = (moved / "cells/good/photos/seed-0/cell.json").stat().st_mtime_ns
    again = benchmark.run(moved / "spec.yaml", moved, device="cpu", quiet=True, report=False)
    assert not again.failures
    assert (moved / "cells/good/photos/seed-0/cell.json").stat().st_mtime_ns == before


def test_a_folder_whose_paths_are_absolute_goes_on_and_loses_them(
    grid: Grid, copied: Path, photos: Path
) -> None:
    """As it was before paths were relative."""
    spec = {key: value for key, value in grid.spec.dump().items() if key != "convention"}
    for entry in (*spec["data"], *spec["unseen"]):
        del entry["show"]
    spec["systems"] = spec["systems"][:1]
    (copied / "spec.yaml").write_text(yaml.safe_dump(spec))
    old, cells = "/gone/before/out", copied / "cells/good/photos"
    for seed in (0, 1):
        job = json.loads((cells / f"seed-{seed}" / "job.json").read_text())
        del job["convention"]
        job["data"]["path"], job["cache"] = str(photos), f"{old}/cache"
        job["split"] = f"{old}/splits/photos.csv"
        (cells / f"seed-{seed}" / "job.json").write_text(json.dumps(job))
        with (cells / f"seed-{seed}" / "log.txt").open("a") as log:
            log.write(f"warning {photos}: 1 case like another\nwritten to {old}/cells/a\n")
    before = (cells / "seed-0/cell.json").stat().st_mtime_ns
    again = benchmark.run(copied / "spec.yaml", copied, device="cpu", quiet=True, report=False)
    assert not again.failures
    assert (cells / "seed-0/cell.json").stat().st_mtime_ns == before
    assert named_in(copied, [photos.parent, grid.folder, Path("/gone")]) == []
    assert json.loads((cells / "seed-0/job.json").read_text())["cache"] == "./cache"


def test_whether_images_are_shown_does_not_make_another_benchmark(grid: Grid, copied: Path) -> None:
    spec = grid.spec.dump()
    spec["systems"][1:] = []
    (copied / "spec.yaml").write_text(yaml.safe_dump(spec))
    spec["data"][0]["show"] = False
    again = benchmark.run(parse_spec(spec), copied, device="cpu", quiet=True, report=False)
    assert again.spec.data[0].show is False
    assert yaml.safe_load((copied / "spec.yaml").read_text())["data"][0]["show"] is False


def test_a_folder_of_other_data_is_refused(
    grid: Grid, copied: Path, photos: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(photos, tmp_path / "photos")
    spec = grid.spec.dump()
    spec["data"][0] |= {"path": str(moved), "hash": None}
    Image.open(moved / "masks" / "003.png").point(lambda value: 0).save(moved / "masks" / "003.png")
    before = (copied / "spec.yaml").read_bytes()
    with pytest.raises(MedsegError, match="differs in data: photos"):
        benchmark.run(parse_spec(spec), copied, quiet=True, report=False)
    assert (copied / "spec.yaml").read_bytes() == before


def test_data_that_differ_from_a_recorded_hash_are_refused(grid: Grid, tmp_path: Path) -> None:
    spec = grid.spec.dump()
    spec["data"][0]["hash"] = "0123456789abcdef"
    with pytest.raises(MedsegError, match="0123456789abcdef is recorded"):
        benchmark.run(parse_spec(spec), tmp_path / "new", quiet=True, report=False)
    assert not (tmp_path / "new").exists()


def test_a_folder_of_something_else_is_refused(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(MedsegError, match=r"holds thesis\.tex, no benchmark"):
        benchmark.run(grid.spec, tmp_path, quiet=True, report=False)


@pytest.mark.parametrize("text", ["3", "systems: [unet]", "a: ["])
def test_a_damaged_folder_is_refused(grid: Grid, copied: Path, text: str) -> None:
    (copied / "spec.yaml").write_text(text)
    with pytest.raises(MedsegError, match=r"spec\.yaml: it"):
        benchmark.run(grid.spec, copied, quiet=True, report=False)


def test_one_benchmark_at_a_time_writes_to_a_folder(grid: Grid, copied: Path) -> None:
    with (
        FileLock(copied / ".lock"),
        pytest.raises(MedsegError, match="another benchmark is writing"),
    ):
        benchmark.run(grid.spec, copied, quiet=True, report=False)
