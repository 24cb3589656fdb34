from __future__ import annotations

import pytest
import torch

from medseg.engine.device import choose_device, choose_precision, out_of_memory_advice
from medseg.errors import MedsegError


def test_auto_is_a_device_that_exists() -> None:
    assert torch.zeros(1, device=choose_device("auto")).sum() == 0


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99", "xpu", "meta"])
def test_a_device_that_is_not_there_is_an_error_naming_it(name: str) -> None:
    with pytest.raises(MedsegError, match=f"--device {name}"):
        choose_device(name)


def test_a_cpu_computes_in_fp32_unless_asked() -> None:
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu) == "fp32"
    assert choose_precision("bf16", cpu) == "bf16"
    with pytest.raises(MedsegError, match="fp16"):
        choose_precision("fp16", cpu)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_running_out_of_memory_says_what_to_lower(error: Exception) -> None:
    with (
        pytest.raises(MedsegError, match=r"8 images of 256 x 256 .*half is 4"),
        out_of_memory_advice(batch_size=8, image_size=256),
    ):
        raise error


def test_other_errors_pass_unchanged() -> None:
    with (
        pytest.raises(RuntimeError, match="shapes"),
        out_of_memory_advice(batch_size=8, image_size=256),
    ):
        raise RuntimeError("shapes differ")
