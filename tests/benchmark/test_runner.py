from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from filelock import FileLock
from PIL import Image
from rich.console import Console

from benchmark.grids import GOOD, before_forward, tiny
from commands import medseg, parts_of
from data.builders import squares
from medseg import benchmark
from medseg.benchmark import runner
from medseg.benchmark.cell import Job, run_cell
from medseg.benchmark.check import check_spec
from medseg.benchmark.grid import cells_of
from medseg.benchmark.page import write_report
from medseg.benchmark.runner import Grid
from medseg.benchmark.spec import parse_spec
from medseg.data.splitfile import read_split
from medseg.engine import loop as loop_module
from medseg.errors import MedsegError

GRID = ["train.epochs=2", "train.batch_size=4", "data.image_size=16"]


@pytest.fixture(scope="module")
def grid(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Grid:
    """A network that trains and one that raises, two seeds, and unseen data whose images are
    among the training ones."""
    folder = tmp_path_factory.mktemp("grid")
    others = squares(folder / "others", 6)
    values = tiny(folder, data=[str(photos)], unseen=[str(others)], seeds=2)
    values |= {"systems": [*values["systems"], str(folder / "bad.py")], "set": GRID}
    return benchmark.run(parse_spec(values), folder / "out", device="cpu", quiet=True, report=False)


@pytest.fixture
def copied(grid: Grid, tmp_path: Path) -> Path:
    return shutil.copytree(grid.folder, tmp_path / "out")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cell(grid: Grid, system: str, seed: int) -> Path:
    return grid.folder / "cells" / system / "photos" / f"seed-{seed}"


def test_a_finished_cell_leaves_its_scores_and_what_it_took(grid: Grid) -> None:
    folder = cell(grid, "good", 1)
    record = json.loads((folder / "cell.json").read_text())
    assert (record["system"], record["data"], record["seed"]) == ("good", "photos", 1)
    assert (record["status"], record["error"], record["epochs"]) == ("ok", None, 2)
    assert record["parameters"] == 4 * 27 + 4 + 5
    assert record["wall_seconds"] > record["train_seconds"] > 0
    assert record["peak_memory_gb"] > 0.05
    assert record["data_hash"] == grid.spec.data[0].hash
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    curve = [json.loads(line)["val_dice"] for line in lines]
    assert record["val_dice"] == max(curve) == curve[record["best_epoch"] - 1]


def test_only_what_is_needed_is_kept(grid: Grid) -> None:
    assert not (grid.folder / "cache").exists()
    assert not (cell(grid, "good", 0) / "run" / "checkpoints").exists()
    assert (cell(grid, "good", 0) / "run" / "model.medseg").is_file()
    assert not (grid.folder / ".lock").exists()


def test_a_failed_cell_is_a_row_with_its_error(grid: Grid) -> None:
    found = {(row["system"], row["seed"]): row for row in rows(grid.folder / "cells.csv")}
    assert found["good", "0"]["status"] == "ok"
    for seed in ("0", "1"):
        assert found["bad", seed]["status"] == "failed"
        assert found["bad", seed]["error"] == "ZeroDivisionError: on purpose"
    assert [each["system"] for each in grid.failures] == ["bad", "bad"]
    assert "Traceback" in (cell(grid, "bad", 0) / "log.txt").read_text()


def test_all_seeds_share_one_split_and_not_their_weights(grid: Grid) -> None:
    first, second = (cell(grid, "good", seed) / "run" for seed in (0, 1))
    assert parts_of(first) == parts_of(second)
    assert (first / "split.csv").read_bytes() == (grid.folder / "splits/photos.csv").read_bytes()
    assert (first / "model.medseg").read_bytes() != (second / "model.medseg").read_bytes()


def test_the_test_part_is_opened_once_a_cell(grid: Grid) -> None:
    for seed in (0, 1):
        run = cell(grid, "good", seed) / "run"
        assert len((run / "test_openings.jsonl").read_text().splitlines()) == 1
        scored = {row["case"] for row in rows(run.parent / "test.csv")}
        assert scored == parts_of(run)["test"] != set()


def test_unseen_data_are_scored_as_a_whole(grid: Grid) -> None:
    for seed in (0, 1):
        scored = rows(cell(grid, "good", seed) / "unseen" / "others.csv")
        assert [row["case"] for row in scored] == [f"{i:03}" for i in range(6)]


def test_images_that_unseen_data_share_with_training_are_reported(grid: Grid) -> None:
    (overlap,) = grid.summary["overlaps"]
    assert (overlap["data"], overlap["unseen"]) == ("photos", "others")
    assert sorted(map(tuple, overlap["pairs"])) == [(f"{i:03}", f"{i:03}") for i in range(6)]
    parts = parts_of(cell(grid, "good", 0) / "run")
    assert overlap["learnt"] == len({f"{i:03}" for i in range(6)} - parts["test"])


def test_what_is_finished_is_kept_and_a_mended_system_is_trained(
    grid: Grid, copied: Path, tmp_path: Path
) -> None:
    spec = grid.spec.dump()
    (tmp_path / "bad.py").write_text(GOOD.replace("width=4", "width=2"))
    spec["systems"][1] |= {"system": str(tmp_path / "bad.py"), "hash": None}
    spec["seeds"] = [0, 1]
    before = (copied / "cells/good/photos/seed-0/cell.json").stat().st_mtime_ns
    again = benchmark.run(parse_spec(spec), copied, device="cpu", quiet=True, report=False)
    assert not again.failures
    assert (copied / "cells/good/photos/seed-0/cell.json").stat().st_mtime_ns == before
    old = [row for row in rows(grid.folder / "results.csv") if row["system"] == "good"]
    assert [row for row in rows(copied / "results.csv") if row["system"] == "good"] == old
    tests = {(each["metric"], each["data"]) for each in again.summary["tests"]}
    assert tests == {(m, d) for m in ("dice", "hd95") for d in ("photos", "others")}


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


def texts(folder: Path) -> dict[str, str]:
    """Every file of a folder as text; what is packed has no compression."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text(errors="replace") for path in files}


def named_in(folder: Path, places: Iterable[Path]) -> list[tuple[str, str]]:
    return [(file, str(place)) for file, text in texts(folder).items()
            for place in places if str(place) in text]  # fmt: skip


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


def test_published_numbers_are_remembered(grid: Grid, copied: Path, tmp_path: Path) -> None:
    spec = grid.spec.dump()
    spec["systems"][1:] = []
    (copied / "spec.yaml").write_text(yaml.safe_dump(spec))
    numbers = tmp_path / "numbers.yaml"
    entry = {"system": "Theirs", "data": "photos", "value": 0.9}
    numbers.write_text(
        yaml.safe_dump({"source": "A. B. 2020", "protocol": "another", "entries": [entry]})
    )

    def published(**options: Any) -> Any:
        again = benchmark.run(
            parse_spec(spec), copied, device="cpu", quiet=True, report=False, **options
        )
        return again.summary["published"]

    assert published() is None
    given = published(published=numbers)
    numbers.unlink()
    assert published() == given != None  # noqa: E711


def test_costs_are_measured_again_where_onnx_runtime_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "unet.json"
    monkeypatch.setattr(runner, "can_export", lambda: True)
    for text, done in (
        ("{", False),
        ('{"latency_ms_median": 3.5}', False),
        ('{"onnx_note": "needs medseg[export]"}', False),
        ('{"onnx_note": ""}', True),
        ('{"onnx_note": "it cannot be exported"}', True),
    ):
        path.write_text(text)
        assert runner._is_measured(path) is done
    monkeypatch.setattr(runner, "can_export", lambda: False)
    path.write_text('{"onnx_note": "needs medseg[export]"}')
    assert runner._is_measured(path)


def test_the_convention_decides_what_is_written(photos: Path, tmp_path: Path) -> None:
    data = shutil.copytree(photos, tmp_path / "data")
    for mask in (data / "masks").glob("*1*"):
        Image.open(mask).point(lambda value: 0).save(mask)
    values = tiny(tmp_path, data=str(data), convention="monai")
    ran = benchmark.run(values, tmp_path / "out", device="cpu", quiet=True, report=False)
    table = rows(tmp_path / "out/cells/good/data/seed-0/test.csv")
    undefined = [row["case"] for row in table if row["dice"] in ("", "nan")]
    assert undefined == [row["case"] for row in table if row["truth_pixels"] == "0"] != []
    assert ran.summary["protocol"]["convention"] == "monai"


def classes(folder: Path, count: int) -> Path:
    """Squares of more than one class."""
    squares(folder, 8)
    for place, mask in enumerate(sorted((folder / "masks").iterdir())):
        pixels = np.array(Image.open(mask)) > 0
        Image.fromarray((pixels * (place % count + 1)).astype(np.uint8)).save(mask)
    names = {"background": 0} | {f"kind-{value}": value for value in range(1, count + 1)}
    (folder / "labels.json").write_text(json.dumps(names))
    return folder


def test_unseen_data_of_other_classes_than_all_are_refused_before_training(
    photos: Path, tmp_path: Path
) -> None:
    values = tiny(tmp_path, data=str(photos), unseen=str(classes(tmp_path / "three", 2)))
    with pytest.raises(MedsegError, match=r"unseen: three: nothing can be scored.*kind-1, kind-2"):
        benchmark.run(values, tmp_path / "out", device="cpu", quiet=True, report=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("named", [True, False])
def test_the_one_class_of_masks_without_names_is_none_of_several(
    named: bool, tmp_path: Path
) -> None:
    two, one = classes(tmp_path / "two", 2), classes(tmp_path / "one", 1)
    if named:
        shutil.copy(two / "labels.json", one / "labels.json")
    else:
        (one / "labels.json").unlink()
    spec = parse_spec(tiny(tmp_path, data=[str(two), str(one)], unseen=[str(one)]))
    _, checked, _ = check_spec(spec, Console(quiet=True))
    assert list(checked["one"].misfits) == ([] if named else ["two"])


def test_unseen_data_are_scored_by_the_models_of_their_classes_only(
    photos: Path, tmp_path: Path
) -> None:
    three, others = classes(tmp_path / "three", 2), squares(tmp_path / "others", 6)
    values = tiny(tmp_path, data=[str(photos), str(three)], unseen=[str(others)])
    ran = benchmark.run(values, tmp_path / "out", device="cpu", quiet=True, report=False)
    assert not ran.failures
    assert {name: list(record["unseen"]) for record in ran.records
            for name in [record["data"]]} == {"photos": ["others"], "three": []}  # fmt: skip
    page = write_report(tmp_path / "out").read_text()
    assert "three has the classes background, kind-1, kind-2, and others background" in page


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


def test_a_killed_cell_is_a_row_too(photos: Path, tmp_path: Path) -> None:
    values = tiny(tmp_path, data=str(photos))
    (tmp_path / "good.py").write_text(before_forward("import os; os.kill(os.getpid(), 9)"))
    ran = benchmark.run(values, tmp_path / "out", device="cpu", quiet=True, report=False)
    (record,) = ran.records
    assert record["status"] == "failed"
    assert "killed by SIGKILL" in record["error"]
    assert record["error"].endswith("see cells/good/photos/seed-0/log.txt")


def test_a_cell_stopped_in_its_training_goes_on_to_the_same_scores(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cell(grid, "good", 1)
    job = Job.read(whole / "job.json")
    monkeypatch.chdir(grid.folder)
    step = loop_module.TrainingLoop._step

    def stopping(self: loop_module.TrainingLoop, batch: Any) -> dict[str, float]:
        self.stop_asked = self.steps_done == 5
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop_module.TrainingLoop, "_step", stopping)
        with pytest.raises(loop_module.Interrupted):
            run_cell(tmp_path, job)
    assert not (tmp_path / "test.csv").exists()
    assert run_cell(tmp_path, job)["status"] == "ok"
    for table in ("test.csv", "unseen/others.csv"):
        assert (tmp_path / table).read_bytes() == (whole / table).read_bytes()


def test_patients_are_in_the_tables_and_data_trained_on_elsewhere_show_their_test_part(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(grid.folder)
    job = Job.read(cell(grid, "good", 0) / "job.json")
    only = "splits/photos.csv"
    data = replace(job.data, group_pattern=r"^\d\d")
    shutil.copytree(cell(grid, "good", 0) / "run", tmp_path / "run")
    unseen = (replace(data, name="elsewhere", only=only),)
    run_cell(tmp_path, replace(job, data=data, unseen=unseen))
    test = {case for case, part in read_split(Path(only)).parts.items() if part == "test"}
    for table in ("test.csv", "unseen/elsewhere.csv"):
        found = {row["case"]: row["patient"] for row in rows(tmp_path / table)}
        assert found == {case: case[:2] for case in test}


def test_data_with_errors_fail_before_anything_is_trained(tmp_path: Path) -> None:
    broken = squares(tmp_path / "broken", 6)
    (broken / "masks" / "002.png").write_bytes(b"no picture")
    ran = benchmark.run(
        tiny(tmp_path, data=str(broken)), tmp_path / "out", quiet=True, report=False
    )
    (record,) = ran.records
    assert record["status"] == "failed"
    assert "002" in record["error"]
    assert not (tmp_path / "out" / "cells" / "good" / "broken" / "seed-0" / "run").exists()
    assert ran.summary["scores"] == []


def test_data_without_a_test_part_fail(tmp_path: Path) -> None:
    data = squares(tmp_path / "data", 6)
    (data / "train.txt").write_text("000\n001\n002\n")
    (data / "val.txt").write_text("003\n004\n005\n")
    ran = benchmark.run(tiny(tmp_path, data=str(data)), tmp_path / "out", quiet=True, report=False)
    assert "no test part" in ran.records[0]["error"]


def test_with_folds_each_seed_validates_on_other_cases_and_tests_on_the_same(
    photos: Path, tmp_path: Path
) -> None:
    spec = parse_spec(tiny(tmp_path, data=str(photos), folds=True, seeds=3))
    spec, checked, _ = check_spec(spec, Console(quiet=True))
    (tmp_path / "split.csv").write_text(checked["photos"].split)
    split = read_split(tmp_path / "split.csv")
    assert len(split.folds) == checked["photos"].folds == 5
    validating = [{c for c, part in fold.items() if part == "val"} for fold in split.folds]
    assert set.union(*validating) == {c for c, part in split.parts.items() if part == "train"}
    assert sum(map(len, validating)) == len(set.union(*validating))
    assert "test" in split.parts.values()
    assert [each.fold for each in cells_of(spec, tmp_path)] == [0, 1, 2]


def test_the_split_does_not_depend_on_the_training_seeds(photos: Path, tmp_path: Path) -> None:
    def split(**values: Any) -> str:
        spec = parse_spec(tiny(tmp_path, data=str(photos), **values))
        return check_spec(spec, Console(quiet=True))[1]["photos"].split

    assert split(seeds=[7]) == split(seeds=[1, 2]) != split(seeds=[7], split_seed=1)


@pytest.fixture
def slow_grid(photos: Path, tmp_path: Path) -> list[str]:
    """The command line of two cells of a few seconds each."""
    tiny(tmp_path)
    (tmp_path / "good.py").write_text(before_forward("import time; time.sleep(0.03)"))
    return [
        "benchmark", "--systems", str(tmp_path / "good.py"), "--data", str(photos), "--seeds", "2",
        "--epochs", "12", "--image-size", "16", "--set", "train.batch_size=4", "--device", "cpu",
        "--no-report",
    ]  # fmt: skip


def start(command: list[str], out: Path) -> subprocess.Popen[bytes]:
    """Start a benchmark, and wait until its second cell is half trained."""
    ran = subprocess.Popen(
        [sys.executable, "-m", "medseg", *command, "-o", str(out)],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    curve = out / "cells/good/photos/seed-1/run/metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (curve.is_file() and len(curve.read_text().splitlines()) >= 3):
        assert ran.poll() is None, ran.stderr and ran.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return ran


def alive(folder: Path) -> list[str]:
    """Processes that work in ``folder``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "medseg.benchmark.cell" in line and str(folder) in line:
            found.append(line)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_a_benchmark_killed_in_the_middle_goes_on_to_the_same_results(
    slow_grid: list[str], tmp_path: Path
) -> None:
    assert medseg(*slow_grid, "-o", tmp_path / "whole").code == 0
    ran = start(slow_grid, tmp_path / "killed")
    ran.kill()
    ran.communicate()
    deadline = time.monotonic() + 20
    while alive(tmp_path / "killed"):
        assert time.monotonic() < deadline, "cells outlive their benchmark"
        time.sleep(0.05)
    done = (tmp_path / "killed/cells/good/photos/seed-1/run/metrics.jsonl").read_text()
    assert 3 <= len(done.splitlines()) < 12
    first = (tmp_path / "killed/cells/good/photos/seed-0/cell.json").stat().st_mtime_ns
    assert medseg(*slow_grid, "-o", tmp_path / "killed").code == 0
    assert (tmp_path / "killed/cells/good/photos/seed-0/cell.json").stat().st_mtime_ns == first
    assert "resumed" in (tmp_path / "killed/cells/good/photos/seed-1/log.txt").read_text()
    results = [(tmp_path / name / "results.csv").read_bytes() for name in ("whole", "killed")]
    assert results[0] == results[1]


@pytest.mark.slow
def test_an_interrupted_benchmark_says_how_to_go_on(slow_grid: list[str], tmp_path: Path) -> None:
    ran = start(slow_grid, tmp_path / "out")
    os.kill(ran.pid, signal.SIGINT)
    _, err = ran.communicate(timeout=60)
    assert ran.returncode == 130
    again = f"medseg benchmark {tmp_path / 'out' / 'spec.yaml'} -o {tmp_path / 'out'}"
    assert again in err.decode()
    assert "Traceback" not in err.decode()
    assert medseg(*again.split()[1:], "--device", "cpu", "--no-report").code == 0
