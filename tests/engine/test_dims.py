"""Whether a training is on images or on volumes."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.engine.dims import with_dims
from medseg.errors import RecipeError
from medseg.recipe import Recipe, parse_recipe

NETWORK = """
from torch import nn


class Net(nn.Module):
    def __init__(self, in_channels: int = 1, num_classes: int = 1{option}) -> None:
        super().__init__()
"""


def decided(system: str, **values: object) -> Recipe:
    return with_dims(parse_recipe({"system": system, **values}))


def network(folder: Path, option: str = "") -> str:
    path = folder / "net.py"
    path.write_text(NETWORK.format(option=option))
    return str(path)


def test_a_network_of_images_gets_images() -> None:
    assert decided("unet").data.dims == 2


def test_a_network_of_volumes_gets_volumes() -> None:
    assert decided("stu-net-s").data.dims == 3


def test_a_network_in_a_file_gets_images_unless_told_otherwise(tmp_path: Path) -> None:
    system = network(tmp_path)
    assert decided(system).data.dims == 2
    assert decided(system, data={"dims": 3}).data.dims == 3


@pytest.mark.parametrize(
    "values", [{"data": {"dims": 3}}, {"network": {"dims": 3}}], ids=["data", "network"]
)
def test_a_network_of_both_is_told_which(tmp_path: Path, values: dict[str, object]) -> None:
    recipe = decided(network(tmp_path, ", *, dims: int = 2"), **values)
    assert (recipe.data.dims, recipe.network["dims"]) == (3, 3)


def test_a_network_of_both_gets_images_by_default(tmp_path: Path) -> None:
    recipe = decided(network(tmp_path, ", *, dims: int = 2"))
    assert (recipe.data.dims, recipe.network["dims"]) == (2, 2)


def test_what_contradicts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"network\.dims is 2"):
        decided(network(tmp_path, ", *, dims: int = 2"), data={"dims": 3}, network={"dims": 2})


@pytest.mark.parametrize(("system", "dims"), [("unet", 3), ("stu-net-s", 2)])
def test_what_a_network_does_not_take_is_refused(system: str, dims: int) -> None:
    with pytest.raises(RecipeError, match=rf"data\.dims={dims}.*only.*--dims {dims}"):
        decided(system, data={"dims": dims})


@pytest.mark.parametrize(
    ("system", "values", "key"),
    [
        ("unet", {"data": {"patch": (8, 8, 8)}}, "data.patch"),
        ("unet", {"data": {"intensity": "ct"}}, "data.intensity"),
        ("unet", {"augment3d": {"noise": 0.0}}, "augment3d"),
        ("stu-net-s", {"data": {"image_size": 64}}, "data.image_size"),
        ("stu-net-s", {"augment": {"noise": 0.0}}, "augment"),
    ],
)
def test_a_key_that_would_be_ignored_is_refused(
    system: str, values: dict[str, object], key: str
) -> None:
    with pytest.raises(RecipeError, match=f"^{key}: is for"):
        decided(system, **values)
