from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medseg.errors import RecipeError
from medseg.models import create_model, network_options

ONE_NETWORK = """
from __future__ import annotations
from dataclasses import dataclass
from torch import Tensor, nn

@dataclass
class Widths:
    first: int = 4

class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()

class Mine(nn.Module):
    def __init__(
        self, num_classes: int, in_channels: int, *, widths: tuple[int, ...] = (4,), **rest: int
    ) -> None:
        super().__init__()
        self.widths = widths
        self.layer = nn.Conv2d(in_channels, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(image)
"""


def python_file(folder: Path, text: str, name: str = "mine.py") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_python_file_with_one_network_is_a_system(tmp_path: Path) -> None:
    net = create_model(python_file(tmp_path, ONE_NETWORK), in_channels=1, num_classes=5)
    assert net(torch.zeros(2, 1, 7, 9)).shape == (2, 5, 7, 9)


def test_a_file_may_be_named_like_a_module_of_python(tmp_path: Path) -> None:
    create_model(python_file(tmp_path, ONE_NETWORK, "random.py"))
    import random

    assert random.random() < 1


def test_options_of_a_file_are_its_constructors(tmp_path: Path) -> None:
    name = python_file(tmp_path, ONE_NETWORK)
    assert network_options(name, {}) == {"widths": (4,)}
    assert create_model(name, widths=[1, 2]).widths == (1, 2)
    with pytest.raises(RecipeError, match=r"network\.width: .*'widths'"):
        create_model(name, width=3)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.py: there is no such file"):
        create_model(str(tmp_path / "none.py"))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("from torch.nn import Conv2d\nclass NoModule: ...", 0),
        (ONE_NETWORK + "\nclass Other(Mine): ...", 2),
    ],
)
def test_a_file_with_any_other_number_of_networks_is_an_error(
    tmp_path: Path, text: str, number: int
) -> None:
    with pytest.raises(RecipeError, match=rf"mine\.py: it defines {number} network classes"):
        create_model(python_file(tmp_path, text))


@pytest.mark.parametrize("text", ["def broken(:", "import no_such_module_at_all", "1 / 0"])
def test_a_file_that_cannot_be_imported_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match=r"mine\.py: it cannot be imported"):
        create_model(python_file(tmp_path, text))


def test_an_option_without_default_must_be_given(tmp_path: Path) -> None:
    text = ONE_NETWORK.replace("widths: tuple[int, ...] = (4,)", "widths: tuple[int, ...]")
    name = python_file(tmp_path, text)
    with pytest.raises(RecipeError, match=r"missing 1 required .*'widths'"):
        create_model(name)
    assert create_model(name, widths=[3]).widths == (3,)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("med2dsegnet", "med2d-segnet"), ("Unet", "unet"), ("unet_narrow", "unet-narrow")],
)
def test_an_unknown_system_is_an_error_naming_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(RecipeError, match=f"there is no system '{name}'. Did you mean '{meant}'"):
        create_model(name)


def test_a_name_like_no_system_lists_all() -> None:
    with pytest.raises(RecipeError, match=r"Known: .*med2d-segnet, .*unet, .*unet-narrow"):
        create_model("zzz")


@pytest.mark.parametrize(
    ("option", "meant"), [("expantion", "expansion"), ("kernal", "kernel"), ("width", "widths")]
)
def test_an_unknown_option_is_an_error_naming_the_nearest(option: str, meant: str) -> None:
    with pytest.raises(RecipeError, match=rf"network\.{option}: .*Did you mean '{meant}'"):
        create_model("med2d-segnet", **{option: 3})


def test_a_cards_options_come_between_the_defaults_and_the_given_ones() -> None:
    assert network_options("unet", {})["widths"] == (64, 128, 256, 512, 1024)
    assert network_options("unet-narrow", {})["widths"] == (16, 32, 64, 128, 256)
    assert network_options("unet-narrow", {"widths": [4, 8]})["widths"] == [4, 8]
