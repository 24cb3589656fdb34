from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
VARIANTS: dict[str, Any] = {
    "default": {},
    "lovasz": {"set": {"loss.lovasz": 1}},
    "distillation": {"teacher": {"system": "unet"}},
    "pre-training": {"pretrain": {"train.epochs": 3}},
}


@pytest.fixture(scope="module")
def study_module() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location(
            "recipe_study", BENCHMARKS / "recipe_study.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["recipe_study"] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(BENCHMARKS))


def make_study(module: ModuleType, out: Path, **changes: Any) -> Any:
    values = {"system": "unet-narrow", "data": ["a/one", {"path": "b/two"}], "variants": VARIANTS}
    return module.Study({**values, **changes}, out)


def write_cell(study: Any, variant: str, data: str, seed: int, values: dict[str, float]) -> None:
    folder = study.cell(variant, data, seed)
    folder.mkdir(parents=True)
    lines = [f"{case},{case[0]},{value}" for case, value in values.items()]
    (folder / "val.csv").write_text("\n".join(["case,patient,dice", *lines]) + "\n")
    dice = float(np.mean(list(values.values())))
    (folder / "cell.json").write_text(
        json.dumps({"error": None, "dice": dice, "train_seconds": 1.0})
    )


def test_what_a_training_needs_comes_before_it(study_module: ModuleType, tmp_path: Path) -> None:
    tasks = make_study(study_module, tmp_path, seeds=[0, 1]).tasks()
    places = {task.folder: place for place, task in enumerate(tasks)}
    assert all(places[folder] < places[task.folder] for task in tasks for folder in task.after)
    # Four variants, two datasets, two seeds; a teacher for each dataset and seed, and one
    # pre-training for each seed.
    assert len(tasks) == 4 * 2 * 2 + 2 * 2 + 2


def test_a_student_and_its_teacher_have_one_split_and_seed(
    study_module: ModuleType, tmp_path: Path
) -> None:
    tasks = {task.folder: task for task in make_study(study_module, tmp_path).tasks()}
    students = [task for task in tasks.values() if "/distillation/" in task.folder and task.after]
    assert students
    for student in students:
        (teacher,) = (tasks[folder] for folder in student.after)
        assert (teacher.splits, teacher.seed) == (student.splits, student.seed)
        (named,) = (s for s in student.settings if s.startswith("method_options.teacher="))
        assert teacher.folder in named


def test_differences_are_paired_by_case_and_seed(study_module: ModuleType, tmp_path: Path) -> None:
    study = make_study(study_module, tmp_path, data=["one"], seeds=[0, 1])
    for seed in (0, 1):
        write_cell(study, "default", "one", seed, {"a1": 0.1 * seed, "a2": 0.5, "b1": 0.9})
        write_cell(study, "lovasz", "one", seed, {"b1": 0.8, "a1": 0.1 * seed + 0.2, "a2": 0.5})
    table, patients = study_module.differences(study, "lovasz", "one")
    np.testing.assert_allclose(table, [[0.2, 0.2], [0, 0], [-0.1, -0.1]])
    assert patients == ("a", "a", "b")
    found = study_module.summarise(study, study.tasks())["variants"]["lovasz"]
    assert found["difference"] == pytest.approx(0.1 / 3, abs=1e-5)
    assert found["data"]["one"]["difference_by_seed"] == pytest.approx([0.1 / 3] * 2, abs=1e-5)
    assert not found["holds"]


def test_a_gain_in_every_case_and_seed_holds(study_module: ModuleType, tmp_path: Path) -> None:
    study = make_study(study_module, tmp_path, data=["one"], seeds=[0, 1])
    for seed in (0, 1):
        write_cell(study, "default", "one", seed, {f"{c}1": 0.5 for c in "abcdef"})
        write_cell(study, "lovasz", "one", seed, {f"{c}1": 0.6 for c in "abcdef"})
    summary = study_module.summarise(study, study.tasks())
    assert summary["variants"]["lovasz"]["interval"] == pytest.approx([0.1, 0.1])
    assert summary["variants"]["lovasz"]["holds"]
    assert "| lovasz | +10.0 (+10.0 to +10.0) | +10.0 (+10.0 to +10.0) | yes |" in (
        study_module.markdown(summary)
    )


def test_the_interval_knows_that_seeds_differ(study_module: ModuleType) -> None:
    """Cases that agree, with seeds that do not, leave a wide interval."""
    patients = tuple(map(str, range(200)))
    seeds = np.array([-0.1, 0.0, 0.1])
    low, high = study_module.pigeonhole([(np.tile(seeds, (200, 1)), patients)])
    assert low < -0.05
    assert high > 0.05
    low, high = study_module.pigeonhole([(np.zeros((200, 3)), patients)])
    assert (low, high) == (0, 0)
