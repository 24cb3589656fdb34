from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from commands import TINY, medseg, parts_of
from data.builders import squares
from medseg.data.case import IGNORE
from medseg.errors import RecipeError
from medseg.inference.network import load_network
from medseg.methods.distillation import Distillation, distillation_loss
from medseg.methods.method import Batch, TrainingData
from medseg.recipe import Recipe


@given(seed=st.integers(0, 1000), temperature=st.floats(1, 5), classes=st.sampled_from([2, 4]))
@settings(max_examples=20, deadline=None)
def test_the_loss_is_the_divergence_between_softened_distributions(
    seed: int, temperature: float, classes: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    logits, taught = torch.randn(2, 3, classes, 4, 5, generator=random, dtype=torch.float64)
    mask = torch.zeros(3, 4, 5, dtype=torch.uint8)
    divergence = F.kl_div(
        torch.log_softmax(logits / temperature, 1),
        torch.softmax(taught / temperature, 1),
        reduction="none",
    )
    found = distillation_loss(logits, taught, mask, temperature=temperature)
    assert found.item() == pytest.approx(temperature**2 * divergence.sum(1).mean().item())


def test_one_logit_is_the_difference_of_two() -> None:
    logits, taught = torch.randn(2, 3, 1, 4, 5)
    mask = torch.zeros(3, 4, 5, dtype=torch.uint8)
    both = [torch.cat([torch.zeros_like(x), x], 1) for x in (logits, taught)]
    torch.testing.assert_close(
        distillation_loss(logits, taught, mask, temperature=2),
        distillation_loss(*both, mask, temperature=2),
    )


def test_who_agrees_with_the_teacher_pays_nothing_and_unknown_pixels_do_not_count() -> None:
    logits, taught = torch.randn(2, 2, 3, 4, 5)
    mask = torch.zeros(2, 4, 5, dtype=torch.uint8)
    assert distillation_loss(taught, taught, mask, temperature=3).item() == pytest.approx(0)
    mask[:, :2] = IGNORE
    logits[:, :, 2:] = taught[:, :, 2:]
    assert distillation_loss(logits, taught, mask, temperature=3).item() == pytest.approx(0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("distillation") / "data")


@pytest.fixture(scope="module")
def teacher(dataset: Path) -> Path:
    run = dataset.parent / "teacher"
    assert medseg("train", dataset, *TINY, "-o", run).code == 0
    return run


def data_of(run: Path) -> TrainingData:
    """What a training on the data and the split of ``run`` would tell its method."""
    settings = load_network(run).manifest.preprocessing
    split = {case: part for part, cases in parts_of(run).items() for case in cases}
    return TrainingData(
        split=split,  # type: ignore[arg-type]
        images=images_of(run),
        num_classes=1,
        mean=settings.mean,
        std=settings.std,
    )


def images_of(run: Path) -> dict[str, str]:
    import json

    found: dict[str, str] = json.loads((run / "data.json").read_text())["images"]
    return found


def make_student(teacher: Path) -> Distillation:
    return Distillation(nn.Conv2d(3, 1, 1), Recipe(), teacher=str(teacher))


def make_batch(side: int = 16) -> Batch:
    return {
        "image": torch.randn(2, 3, side, side),
        "mask": torch.randint(0, 2, (2, side, side)).to(torch.uint8),
        "case_id": ("a", "b"),
    }


def test_a_student_is_trained_beside_its_teacher(dataset: Path, teacher: Path) -> None:
    run = dataset.parent / "student"
    done = medseg(
        "train", dataset, *TINY, "-o", run, "--set", "method=distillation",
        "--set", f"method_options.teacher={teacher}", "--set", "method_options.weight=0.5",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "loss_distillation" in (run / "metrics.jsonl").read_text()
    # The student alone is shipped.
    assert load_network(run).manifest.parameters == load_network(teacher).manifest.parameters


def test_only_the_student_learns_and_the_teacher_stays_in_evaluation_mode(teacher: Path) -> None:
    method = make_student(teacher).train()
    torch.stack(list(method.training_step(make_batch()).values())).sum().backward()
    assert not any(module.training for module in method.teacher.modules())
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for p in method.network.parameters())


def test_the_teacher_sees_the_image_as_it_was_normalised_for_it(teacher: Path) -> None:
    method, known = make_student(teacher), data_of(teacher)
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (known.mean, known.std))
    pixels = torch.rand(1, 3, 16, 16)
    method.prepare(replace(known, mean=(0.2, 0.3, 0.4), std=(0.1, 0.2, 0.3)))
    other_mean = torch.tensor((0.2, 0.3, 0.4)).view(1, 3, 1, 1)
    other_std = torch.tensor((0.1, 0.2, 0.3)).view(1, 3, 1, 1)
    torch.testing.assert_close(
        method.teach((pixels - other_mean) / other_std), method.teacher((pixels - mean) / std)
    )


def test_the_student_may_see_images_of_another_size(teacher: Path) -> None:
    method = make_student(teacher)
    assert method.teach(torch.randn(1, 3, 24, 24)).shape == (1, 1, 24, 24)


def test_a_teacher_of_the_same_split_is_taken_with_or_without_its_run(teacher: Path) -> None:
    known = data_of(teacher)
    make_student(teacher).prepare(known)
    no_validation = {case: part for case, part in known.split.items() if part != "val"}
    alone = replace(known, split=no_validation, images={c: known.images[c] for c in no_validation})
    make_student(teacher / "model.medseg").prepare(alone)


@pytest.mark.parametrize(("part", "moved"), [("train", "test"), ("train", "val"), ("val", "test")])
def test_a_teacher_that_has_learnt_from_images_for_validation_or_test_is_refused(
    teacher: Path, part: str, moved: str
) -> None:
    known = data_of(teacher)
    case = next(case for case, its in known.split.items() if its == part)
    leaking = replace(known, split={**known.split, case: moved})  # type: ignore[dict-item]
    with pytest.raises(RecipeError, match=f"learnt from 1 image .*{case}"):
        make_student(teacher).prepare(leaking)


def test_a_teacher_of_other_classes_is_refused(teacher: Path) -> None:
    with pytest.raises(RecipeError, match="same classes and channels"):
        make_student(teacher).prepare(replace(data_of(teacher), num_classes=3))


def test_a_temperature_below_one_is_refused(teacher: Path) -> None:
    with pytest.raises(RecipeError, match="at least 1"):
        Distillation(nn.Conv2d(3, 1, 1), Recipe(), teacher=str(teacher), temperature=0.5)


def test_a_student_without_a_teacher_is_refused() -> None:
    with pytest.raises(RecipeError, match="no teacher is named"):
        Distillation(nn.Conv2d(3, 1, 1), Recipe())
