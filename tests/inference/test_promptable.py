from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data.builders import noise
from medseg import load
from medseg.data.prompts import Box, Point, Prompts
from medseg.errors import DataError, ModelError
from medseg.inference.network import load_network
from medseg.inference.promptable import PromptableModel
from medseg.networks.promptable.scribbleprompt import ScribblePromptUNet

from .builders import promptable

CLICK = Prompts(points=(Point(20, 10),))


@pytest.fixture(scope="module")
def model() -> PromptableModel:
    return promptable()


def test_it_segments_only_what_it_is_pointed_at(model: PromptableModel) -> None:
    with pytest.raises(ModelError, match=r"nothing is pointed at.*points, boxes or scribbles"):
        model.predict(noise())
    with pytest.raises(ModelError, match="does not take text"):
        model.predict(noise(), prompts=Prompts(text="liver"))


def test_a_model_that_is_pointed_leaves_the_model_as_it_was(model: PromptableModel) -> None:
    pointed = model.pointed(Prompts(points=(Point(1, 2),)))
    assert pointed.predict(noise()).shape == (16, 20)
    assert not model.prompts


def test_prompts_outside_the_image_are_an_error(model: PromptableModel) -> None:
    with pytest.raises(DataError, match="20 x 16 pixels"):
        model.predict(noise(), prompts=Prompts(points=(Point(20, 3),)))


def test_different_prompts_have_different_answers(model: PromptableModel) -> None:
    image = noise(size=(40, 40))
    answers = [
        model.pointed(prompts)._of(image, with_probabilities=True).probabilities
        for prompts in (
            CLICK,
            Prompts(points=(Point(20, 10, False),)),
            Prompts(boxes=(Box(2, 2, 30, 20),)),
            Prompts(scribbles=np.eye(40, dtype=np.float32)[None].repeat(2, 0)),
        )
    ]
    for index, answer in enumerate(answers):
        assert answer is not None
        assert not any(np.array_equal(answer, other) for other in answers[:index])


def test_flips_are_refused(model: PromptableModel) -> None:
    with pytest.raises(ModelError, match="--tta"):
        model.predict(noise(size=(40, 40)), tta=True, prompts=CLICK)


def save_published(path: Path, widths: int = 5, first: int = 5) -> ScribblePromptUNet:
    """A small file in the authors' layout, made with the authors' names of the parts."""
    torch.manual_seed(1)
    network = ScribblePromptUNet(first - 4, widths=(widths,) * 4)
    torch.save(network.state_dict(), path)
    return network.eval()


def test_published_weights_are_loaded_and_see_grey_images_from_0_to_1_at_128_pixels(
    tmp_path: Path,
) -> None:
    network = save_published(tmp_path / "unet.pt")
    model = load(tmp_path / "unet.pt", trust=True, system="scribbleprompt", device="cpu")
    assert isinstance(model, PromptableModel)
    image = noise(size=(128, 128), channels=1)
    prepared = model.prepare(image[:, :, None])
    np.testing.assert_allclose(prepared[0], image / np.float32(255), rtol=1e-6)
    with torch.inference_mode():
        empty = network(torch.from_numpy(prepared)[None])
    pointed = model.answer(prepared, CLICK)
    assert pointed.shape == empty.shape == (1, 1, 128, 128)
    assert not torch.equal(pointed, empty)
    torch.testing.assert_close(model.answer(prepared, Prompts()), empty)


def test_other_weights_are_no_published_ones(tmp_path: Path) -> None:
    save_published(tmp_path / "colour.pt", first=7)
    torch.save({"weight": torch.zeros(1, 3, 1, 1)}, tmp_path / "other.pt")
    for name in ("colour.pt", "other.pt"):
        with pytest.raises(ModelError, match="not weights of a ScribblePrompt-UNet"):
            load(tmp_path / name, trust=True, system="scribbleprompt")


def test_what_cannot_point_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.inference.network.load_model", lambda *_, **__: promptable())
    with pytest.raises(ModelError, match="here nothing can be pointed at"):
        load_network(tmp_path)
