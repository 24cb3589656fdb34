from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from medseg.methods.mean_teacher import follow, sigmoid_ramp_up, teacher_of


def test_after_n_steps_behind_a_resting_student_the_teacher_is_a_power_of_the_decay_away() -> None:
    student = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    teacher = teacher_of(student)
    begun = [tensor.clone() for tensor in teacher.state_dict().values()]
    for tensor in student.state_dict().values():
        tensor.add_(1)
    for _ in range(7):
        follow(teacher, student, 0.9)
    for before, now, theirs in zip(
        begun, teacher.state_dict().values(), student.state_dict().values(), strict=True
    ):
        if now.is_floating_point():
            assert torch.allclose(now, 0.9**7 * before + (1 - 0.9**7) * theirs)
        else:
            assert torch.equal(now, theirs)


def test_tied_weights_move_once() -> None:
    student = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    student[1].weight = student[0].weight
    teacher = teacher_of(student)
    before = teacher[0].weight.clone()
    with torch.no_grad():
        student[0].weight.add_(1)
    follow(teacher, student, 0.5)
    assert torch.allclose(teacher[0].weight, before + 0.5)


def test_the_teacher_is_not_trained() -> None:
    assert not any(p.requires_grad for p in teacher_of(nn.Linear(2, 2)).parameters())


def test_the_ramp_rises_from_exp_minus_5_to_1() -> None:
    assert sigmoid_ramp_up(0, 40) == pytest.approx(math.exp(-5))
    assert sigmoid_ramp_up(20, 40) == pytest.approx(math.exp(-1.25))
    assert sigmoid_ramp_up(40, 40) == sigmoid_ramp_up(99, 40) == sigmoid_ramp_up(0, 0) == 1
