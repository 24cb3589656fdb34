from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medseg.engine.checkpoint import (
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from medseg.errors import MedsegError, ModelError


def train_steps(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        x = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()


def make() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    return net, torch.optim.AdamW(net.parameters(), lr=0.1)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool]
)
def test_tensors_of_any_type_and_shape_come_back(tmp_path: Path, dtype: torch.dtype) -> None:
    group = {"a.b": (torch.arange(24).view(2, 3, 4) % 3).to(dtype), "scalar": torch.tensor(1.5)}
    save_checkpoint(tmp_path / "c.safetensors", {"g": group}, {})
    tensors, _ = load_checkpoint(tmp_path / "c.safetensors")
    assert tensors.keys() == {"g"}
    assert all(torch.equal(tensors["g"][name], group[name]) for name in group)
    assert tensors["g"]["a.b"].dtype == dtype


def test_memory_layouts_do_not_matter(tmp_path: Path) -> None:
    weight = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "c.safetensors", {"g": {"w": weight, "t": weight[0].mT}}, {})
    tensors, _ = load_checkpoint(tmp_path / "c.safetensors")
    assert torch.equal(tensors["g"]["w"], weight)
    assert torch.equal(tensors["g"]["t"], weight[0].mT)


def test_the_state_comes_back(tmp_path: Path) -> None:
    state = {"epoch": 3, "best": 0.1 + 0.2, "losses": {"dice": 1e-300}, "name": "größe", "n": None}
    save_checkpoint(tmp_path / "c.safetensors", {"g": {"w": torch.zeros(1)}}, state)
    assert load_checkpoint(tmp_path / "c.safetensors")[1] == state


def test_training_goes_on_bit_for_bit_from_a_checkpoint(tmp_path: Path) -> None:
    net, optimizer = make()
    train_steps(net, optimizer, range(5))
    save_checkpoint(
        tmp_path / "c.safetensors",
        {"net": net.state_dict(), "optimizer": optimizer_tensors(optimizer)},
        {},
    )
    train_steps(net, optimizer, range(5, 9))

    again, its_optimizer = make()
    tensors, _ = load_checkpoint(tmp_path / "c.safetensors")
    again.load_state_dict(tensors["net"])
    restore_optimizer(its_optimizer, tensors["optimizer"])
    train_steps(again, its_optimizer, range(5, 9))
    for name, value in net.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    ours, theirs = optimizer_tensors(optimizer), optimizer_tensors(its_optimizer)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_restoring_an_optimizer_leaves_its_settings(tmp_path: Path) -> None:
    net, optimizer = make()
    train_steps(net, optimizer, range(1))
    other = torch.optim.AdamW(make()[0].parameters(), lr=0.5, weight_decay=0.3)
    restore_optimizer(other, optimizer_tensors(optimizer))
    assert other.param_groups[0]["lr"] == 0.5
    assert other.param_groups[0]["weight_decay"] == 0.3


def test_no_file_is_an_error_naming_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.safetensors"):
        load_checkpoint(tmp_path / "none.safetensors")


@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_a_truncated_checkpoint_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "c.safetensors"
    save_checkpoint(path, {"g": {"w": torch.arange(10.0)}}, {"epoch": 1})
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(ModelError, match="not a readable checkpoint"):
        load_checkpoint(path)


FILLED_DISK = """
import resource, sys
from pathlib import Path
import torch
from medseg.engine.checkpoint import save_checkpoint
from medseg.errors import MedsegError

path = Path(sys.argv[1])
save_checkpoint(path, {"g": {"w": torch.zeros(100)}}, {"epoch": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint(path, {"g": {"w": torch.ones(100_000)}}, {"epoch": 2})
except MedsegError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_is_an_error_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    result = subprocess.run(
        [sys.executable, "-c", FILLED_DISK, path], capture_output=True, text=True, check=True
    )
    assert "c.safetensors: could not be written" in result.stdout
    tensors, state = load_checkpoint(path)
    assert state == {"epoch": 1}
    assert torch.equal(tensors["g"]["w"], torch.zeros(100))
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(MedsegError, match="could not be written"):
        save_checkpoint(tmp_path / "checkpoints" / "c.safetensors", {}, {})
