"""Systems of unlike kinds through the same commands: latent codes; scans of images, of volumes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import pytest
from PIL import Image

from commands import medseg
from data.builders import squares
from data.volumes import balls
from engine.test_methods import interrupted_after
from engine.test_train import assert_same_bits, without_times
from medseg.engine.loop import Interrupted

pytestmark = pytest.mark.slow

SCANS = ("network.width=8", "network.depths=[1,0,1,0]")
CASES = {
    "gms": ("gms", ("network.width=16", "method_options.autoencoder_share=0.5"), 2),
    "lightm-unet": ("lightm-unet", SCANS, 2),
    "lightm-unet of volumes": (
        "lightm-unet",
        (*SCANS, "data.dims=3", "data.patch=[8,8,8]", "data.patches_per_volume=1"),
        3,
    ),
}


@dataclass(frozen=True)
class Trained:
    """A run of two epochs, and how to begin it again."""

    data: Path
    run: Path
    options: tuple[Any, ...]
    dims: int

    @property
    def images(self) -> list[Path]:
        return sorted((self.data / "images").iterdir())


@pytest.fixture(scope="module", params=CASES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    system, settings, dims = CASES[request.param]
    folder = tmp_path_factory.mktemp("kind")
    data = squares(folder / "data", 16) if dims == 2 else balls(folder / "data", 8)
    size = ("--image-size", 16) if dims == 2 else ()
    given = [part for setting in settings for part in ("--set", setting)]
    options = (
        "--system",
        system,
        "--epochs",
        2,
        "--batch-size",
        2,
        "--device",
        "cpu",
        *size,
        *given,
    )
    made = Trained(data, folder / "run", options, dims)
    done = medseg("train", data, "-o", made.run, *options)
    assert done.code == 0, done.err
    return made


def size_of(file: Path) -> tuple[int, ...]:
    if file.suffix == ".png":
        with Image.open(file) as picture:
            return picture.size
    return tuple(nibabel.load(file).shape)


def test_a_stopped_run_resumes_to_the_same_bits(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = tmp_path / "stopped"

    def go() -> None:
        if medseg("train", trained.data, "-o", stopped, *trained.options).code == 130:
            raise Interrupted

    interrupted_after(3, monkeypatch, go)
    assert medseg("train", trained.data, "-o", stopped, "--resume").code == 0
    assert_same_bits(trained.run, stopped)
    assert without_times(trained.run) == without_times(stopped)


def test_every_image_gets_a_mask_of_its_size(trained: Trained, tmp_path: Path) -> None:
    done = medseg("predict", trained.run, trained.data / "images", "-o", tmp_path / "masks")
    assert done.code == 0, done.err
    for image in trained.images:
        before, after = (size_of(file) for file in (image, tmp_path / "masks" / image.name))
        assert before == after


def test_it_is_scored_on_the_test_part(trained: Trained, tmp_path: Path) -> None:
    done = medseg("evaluate", trained.data, trained.run, "-o", tmp_path / "scores.json")
    assert done.code == 0, done.err
    assert '"dice"' in (tmp_path / "scores.json").read_text()


def test_its_graph_gives_the_same_masks(trained: Trained, tmp_path: Path) -> None:
    graph = tmp_path / "model.onnx"
    assert medseg("export", trained.run, "-o", graph).code == 0
    masks = []
    for name, model in (("torch", trained.run), ("onnx", graph)):
        medseg("predict", model, trained.data / "images", "-o", tmp_path / name)
        files = sorted(p for p in (tmp_path / name).iterdir() if p.suffix != ".json")
        masks.append([file.read_bytes() for file in files])
    assert len(masks[0]) == len(trained.images)
    assert masks[0] == masks[1]
