from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from benchmark.grids import GOOD, cell, classes, rows, tiny
from commands import parts_of
from data.builders import squares
from medseg import benchmark
from medseg.benchmark import runner
from medseg.benchmark.page import write_report
from medseg.benchmark.runner import Grid
from medseg.benchmark.spec import parse_spec


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
