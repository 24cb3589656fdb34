from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.grids import cell, rows
from medseg.benchmark.cell import Job, run_cell
from medseg.benchmark.runner import Grid
from medseg.data.splitfile import read_split
from medseg.engine import loop as loop_module


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
