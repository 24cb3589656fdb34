"""The examples of CONTRIBUTING.md work as printed."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

import medseg
from medseg.data.layouts import LAYOUTS, open_dataset
from medseg.metrics import overlap, panel
from medseg.metrics.pair import Pair
from medseg.models import create_model
from medseg.nn.blocks import count_parameters
from medseg.recipe import Recipe

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    """The Python block whose first line names the file ``name``."""
    blocks = re.findall(r"^```python\n# (\S+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (code,) = [code for path, code in blocks if path == name]
    return str(code)


def saved(name: str, folder: Path) -> Path:
    path = folder / Path(name).name
    path.write_text(example(name), encoding="utf-8")
    return path


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def squares(folder: Path, count: int) -> None:
    """``count`` cases of one bright square each, in folders of their own."""
    for index in range(count):
        (folder / f"{index:02}").mkdir(parents=True)
        mask = np.zeros((20, 20), np.uint8)
        mask[index : index + 8, 4:12] = 255
        Image.fromarray(mask // 2 + 9).save(folder / f"{index:02}" / "image.png")
        Image.fromarray(mask).save(folder / f"{index:02}" / "mask.png")


@pytest.mark.parametrize("size", [(1, 1), (17, 31), (32, 32)])
def test_the_network_keeps_the_size_of_the_image(tmp_path: Path, size: tuple[int, int]) -> None:
    net = create_model(str(saved("mynet.py", tmp_path)), in_channels=1, num_classes=4).eval()
    assert net(torch.zeros(2, 1, *size)).shape == (2, 4, *size)


def test_the_network_trains_and_predicts(tmp_path: Path) -> None:
    file = saved("mynet.py", tmp_path)
    for index in range(8):
        for kind, low in (("images", 9), ("masks", 0)):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            picture = np.full((20, 20), low, np.uint8)
            picture[index : index + 8, 4:12] = 255
            Image.fromarray(picture).save(tmp_path / "data" / kind / f"{index}.png")
    run = medseg.train(
        tmp_path / "data",
        system=str(file),
        output=tmp_path / "run",
        epochs=1,
        image_size=32,
        settings=["network.width=8"],
        device="cpu",
        quiet=True,
    )
    model = medseg.load(run.folder, system=str(file), device="cpu")
    assert model.predict(tmp_path / "data" / "images" / "0.png").shape == (20, 20)
    assert run.recipe.network == {"width": 8}


def test_the_card_counts_the_parameters_of_the_network(tmp_path: Path) -> None:
    card = imported(saved("src/medseg/systems/mynet.py", tmp_path)).CARD
    net = create_model(str(saved("mynet.py", tmp_path)))
    assert card.fidelity.parameters == count_parameters(net)


def test_the_methods_loss_is_zero_for_a_network_that_does_not_tell_left_from_right(
    tmp_path: Path,
) -> None:
    method_class = imported(saved("src/medseg/methods/mirrored.py", tmp_path)).Mirrored
    network = torch.nn.Conv2d(1, 1, 1)
    image, mask = torch.rand(2, 1, 8, 8), torch.zeros(2, 8, 8, dtype=torch.uint8)
    losses = method_class(network, Recipe())({"image": image, "mask": mask, "case_id": ("a", "b")})
    assert losses.keys() == {"cross_entropy", "dice", "mirrored"}
    assert losses["mirrored"].item() == pytest.approx(0, abs=1e-9)


def test_the_layout_reads_a_folder_for_each_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squares(tmp_path / "data", 3)
    layout = imported(saved("src/medseg/data/layouts/case_folders.py", tmp_path))
    monkeypatch.setitem(LAYOUTS, layout.NAME, layout)
    dataset = open_dataset(tmp_path / "data")
    assert dataset.layout == "case-folders"
    assert [case.id for case in dataset.cases] == ["00", "01", "02"]
    assert all(case.mask is not None for case in dataset.cases)
    assert layout.recognise(tmp_path / "data" / "00") is None


def test_the_metric_is_the_precision_of_the_background() -> None:
    names = {**vars(overlap), **vars(panel)}
    exec(example("src/medseg/metrics/overlap.py"), names)
    value = names["METRICS"]["npv"].function
    region = np.zeros((6, 6), bool)
    region[:2] = True
    assert value(Pair(region, region)) == 1
    assert value(Pair(region, region & False)) == pytest.approx(24 / 36)
    assert np.isnan(value(Pair(region, region | True)))
