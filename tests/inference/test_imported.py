from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load
from torch import Tensor

import medseg as package
from commands import medseg
from medseg.engine.initial import carry_over, load_origin
from medseg.errors import ModelError, RecipeError
from medseg.inference.bundle import read_bundle
from medseg.inference.imported import import_checkpoint
from medseg.networks.volumes.stu_net import STUNet
from stu_net_names import official_names

WIDTHS = (4, 6, 8, 8, 10, 10)


def published(path: Path, holder: str = "network_weights") -> tuple[Path, dict[str, Tensor]]:
    """A small file as nnU-Net's trainers of STU-Net leave it: 1 channel, 4 classes."""
    torch.manual_seed(1)
    weights = STUNet(1, 4, widths=WIDTHS).state_dict()
    content = {
        holder: official_names(weights),
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
        "current_epoch": 4000,
        "_best_ema": np.float64(0.8),
        "logging": {"mean_fg_dice": [np.float32(0.5)]},
    }
    torch.save(content, path)
    return path, weights


@pytest.mark.parametrize("holder", ["network_weights", "state_dict"])
def test_a_checkpoint_of_either_nnunet_becomes_a_bundle(holder: str, tmp_path: Path) -> None:
    source, weights = published(tmp_path / "stunet.model", holder)
    out = tmp_path / "stunet.medseg"
    done = medseg("models", "import", source, "--system", "stu-net-s", "--trust", "-o", out)
    assert done.code == 0, done.err
    stored = read_bundle(out)
    found = load(stored.weights)
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], value) for name, value in weights.items())
    assert (stored.manifest.num_classes, stored.manifest.preprocessing.channels) == (4, 1)
    assert stored.manifest.network["widths"] == list(WIDTHS)


def test_the_bundle_starts_a_training_of_other_classes_and_channels(tmp_path: Path) -> None:
    source, weights = published(tmp_path / "stunet.pth")
    import_checkpoint(source, tmp_path / "s.medseg", system="stu-net-s", trust=True)
    network = STUNet(2, 3, widths=WIDTHS)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    carried = carry_over(
        network,
        load_origin(str(tmp_path / "s.medseg")),
        system="stu-net-s",
        options={"widths": list(WIDTHS)},
        in_channels=2,
        num_classes=3,
        classes=("background", "a", "b"),
    )
    after = network.state_dict()
    heads = {name for name in after if name.startswith("heads.")}
    assert set(carried.fresh) == heads
    assert all(torch.equal(after[name], before[name]) for name in heads)
    assert set(carried.adapted) == {"encoder.0.0.conv1.weight", "encoder.0.0.shortcut.weight"}
    for name in carried.adapted:
        torch.testing.assert_close(after[name].sum(1), weights[name].sum(1))
    assert all(torch.equal(after[name], weights[name]) for name in carried.whole)


def test_a_pickle_is_refused_without_trust(tmp_path: Path) -> None:
    source, _ = published(tmp_path / "stunet.pth")
    with pytest.raises(ModelError, match="--trust"):
        import_checkpoint(source, tmp_path / "s.medseg", system="stu-net-s", trust=False)
    assert not (tmp_path / "s.medseg").exists()


class Harmful:
    """Would create a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.target,)


def test_code_in_a_trusted_pickle_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": Harmful(tmp_path / "harm")}, tmp_path / "bad.pth")
    with pytest.raises(ModelError, match="more than weights and numbers"):
        import_checkpoint(
            tmp_path / "bad.pth", tmp_path / "s.medseg", system="stu-net-s", trust=True
        )
    assert not (tmp_path / "harm").exists()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"stem.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"stem\.weight is no part of STU-Net"):
        import_checkpoint(
            tmp_path / "other.pth", tmp_path / "s.medseg", system="stu-net-s", trust=True
        )


def test_a_system_without_a_published_layout_is_refused(tmp_path: Path) -> None:
    source, _ = published(tmp_path / "stunet.pth")
    with pytest.raises(RecipeError, match="no layout of published weights"):
        import_checkpoint(source, tmp_path / "s.medseg", system="unet", trust=True)


def test_imported_weights_of_volumes_do_not_predict(tmp_path: Path) -> None:
    source, _ = published(tmp_path / "stunet.pth")
    import_checkpoint(source, tmp_path / "s.medseg", system="stu-net-s", trust=True)
    with pytest.raises(ModelError, match="does not say how volumes are prepared"):
        package.load(tmp_path / "s.medseg")
