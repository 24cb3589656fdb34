"""Methods of every kind in two processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from data.builders import squares
from engine.test_methods import ADVERSARIAL
from engine.test_train import TINY, tensors, without_times

WATCHED = """
import torch
import torch.distributed as dist

from {module} import {method}


class Watched({method}):
    '''Fails where a weight, of a teacher too, is not the same in all processes.'''

    def after_step(self):
        super().after_step()
        for name, value in self.state_dict().items():
            least, most = value.double(), value.double()
            dist.all_reduce(least, dist.ReduceOp.MIN)
            dist.all_reduce(most, dist.ReduceOp.MAX)
            assert torch.equal(least, most), name
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("data") / "squares", 24)


def trained(data: Path, output: Path, *settings: str, processes: int = 2) -> Path:
    """A run of two epochs in batches of 8."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    given = [part for setting in settings for part in ("--set", setting)]
    subprocess.run(
        [
            sys.executable, *(launcher if processes > 1 else ()), "-m", "medseg", "train",
            str(data), "-o", str(output), "--epochs", "2", "--image-size", "16",
            "--batch-size", "8", "--device", "cpu", *given,
        ],
        check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=400,
    )  # fmt: skip
    return output


@pytest.mark.parametrize(
    ("module", "method", "settings"),
    [
        ("medseg.methods.bcp", "BCP", (*TINY, "data.labelled=8", "method_options.pretraining=0.5")),
        (
            "medseg.methods.gms",
            "GenerativeSegmentation",
            ("system=gms", "network.width=16", "method_options.autoencoder_share=0.5"),
        ),
        ("medseg.methods.dsd", "DSD", ("system=unet", "network.widths=[4,6,8]")),
    ],
)
def test_all_weights_stay_alike_in_all_processes(
    data: Path, tmp_path: Path, module: str, method: str, settings: tuple[str, ...]
) -> None:
    path = tmp_path / "watched.py"
    path.write_text(WATCHED.format(module=module, method=method))
    folder = trained(data, tmp_path / "run", f"method={path}", *settings)
    assert len(without_times(folder)) == 2


def test_two_optimizers_move_weights_in_two_processes_as_in_one(data: Path, tmp_path: Path) -> None:
    (tmp_path / "adversarial.py").write_text(ADVERSARIAL)
    settings = (*TINY, f"method={tmp_path / 'adversarial.py'}")
    folders = [trained(data, tmp_path / str(n), *settings, processes=n) for n in (1, 2)]
    one, two = map(tensors, folders)
    # Gradients of biases before a norm are rounding errors, which Adam makes steps of.
    for name in (n for n in one if n.startswith("method/") and one[n].ndim > 1):
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-5, msg=name)
    losses = [[row["loss"] for row in without_times(folder)] for folder in folders]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
