from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from commands import medseg
from data.builders import noise
from data.builders import save as save_image
from medseg import load
from medseg.data.prompts import Point, Prompts
from medseg.errors import ModelError
from medseg.inference.bundle import Manifest, Preprocessing, StoredLabel, write_bundle
from medseg.inference.network import load_network
from medseg.inference.text import TextModel
from medseg.networks.language.vlsm_adapter import VLSMAdapter
from medseg.nn.blocks import count_parameters
from networks.language.small import SMALL, TEXTS

LABELS = (
    StoredLabel(name="background", value=0),
    StoredLabel(name="polyp", value=10),
    StoredLabel(name="nuclei", value=20),
)


def bundle(path: Path, count: int = 3) -> Path:
    """A model of ``count - 1`` classes, each of which about half of an image is of."""
    torch.manual_seed(0)
    options = {"parts": "vlc", "width": 5, "condition_width": 7}
    network = VLSMAdapter(size=SMALL, frozen=True, **options).eval()  # type: ignore[arg-type]
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        # So that sentences have different answers.
        network.clipseg.clip.text_projection.weight.mul_(5)
        layer = network.clipseg.decoder.transposed_convolution
        layer.bias.sub_(network.ask(image, TEXTS).median())
    weights = save(network.state_dict())
    manifest = Manifest(
        system="vlsm-adapter",
        network=network.portable(options),
        num_classes=1 if count == 2 else count,
        labels=LABELS[:count],
        prompts=("text",),
        sentences=TEXTS[: count - 1],
        preprocessing=Preprocessing(image_size=32, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3),
        recipe={},
        data={"name": "noise"},
        scores={},
        parameters=count_parameters(network),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    write_bundle(path, manifest, weights)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle(tmp_path_factory.mktemp("text") / "model.medseg")


@pytest.fixture(scope="module")
def model(path: Path) -> TextModel:
    found = load(path, device="cpu")
    assert isinstance(found, TextModel)
    return found


def share(mask: np.ndarray) -> float:  # type: ignore[type-arg]
    return float(np.count_nonzero(mask) / mask.size)


def test_without_words_it_segments_all_that_it_was_trained_on(model: TextModel) -> None:
    mask = model.predict(noise(size=(40, 50)))
    assert set(np.unique(mask)) <= {0, 10, 20}
    assert 0.05 < share(mask) < 0.95
    assert model.predict_probabilities(noise(size=(40, 50))).shape == (3, 40, 50)


def test_words_have_an_answer_of_their_own(model: TextModel) -> None:
    image = noise(size=(40, 50))
    answers = [model.predict(image, prompts=Prompts(text=text)) for text in (*TEXTS, "a lung")]
    assert all(set(np.unique(answer)) == {0, 255} for answer in answers)
    assert not np.array_equal(answers[0], answers[1])
    assert not np.array_equal(answers[0], answers[2])


def test_a_class_asked_for_by_its_sentence_holds_what_it_has_among_the_others(
    model: TextModel,
) -> None:
    image = noise(size=(40, 50))
    mask = model.predict(image)
    for text, value in zip(TEXTS, (10, 20), strict=True):
        alone = model.predict(image, prompts=Prompts(text=text)) > 0
        assert np.all(alone[mask == value])
        assert not alone[mask == 0].any()


def test_a_model_that_is_asked_leaves_the_model_as_it_was(model: TextModel) -> None:
    before = model.predict(noise())
    asked = model.pointed(Prompts(text="a lung"))
    assert asked.manifest.sentences == ("a lung",)
    assert np.array_equal(model.predict(noise()), before)


def test_other_prompts_and_none_are_errors(model: TextModel) -> None:
    with pytest.raises(ModelError, match="does not take points"):
        model.pointed(Prompts(points=(Point(1, 1),)))
    with pytest.raises(ModelError, match="nothing is pointed at"):
        model.pointed(Prompts())


def test_one_class_keeps_its_name_and_value(tmp_path: Path) -> None:
    model = load(bundle(tmp_path / "m.medseg", 2), device="cpu")
    assert isinstance(model, TextModel)
    image = noise(size=(40, 50))
    asked = model.predict(image, prompts=Prompts(text=TEXTS[0]))
    assert np.array_equal(model.predict(image), asked)
    assert set(np.unique(asked)) == {0, 10}


def test_what_needs_a_network_of_images_gets_one(path: Path) -> None:
    network = load_network(path, device="cpu").network
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"sentences": ("one",)}, "1 sentences do not fit 3 labels"),
        ({"prompts": ("point",)}, "models of pictures that take text"),
    ],
)
def test_sentences_that_do_not_fit_are_refused(
    changes: dict[str, object], named: str, model: TextModel
) -> None:
    with pytest.raises(ValueError, match=named):
        Manifest.model_validate(model.manifest.model_dump() | changes)


def test_sentences_of_a_network_that_takes_no_words_are_refused(path: Path, tmp_path: Path) -> None:
    from .builders import manifest_and_weights

    manifest, weights = manifest_and_weights()
    lying = manifest.model_copy(update={"prompts": ("text",), "sentences": ("a nucleus",)})
    write_bundle(tmp_path / "m.medseg", lying, weights)
    with pytest.raises(ModelError, match="takes no words"):
        load(tmp_path / "m.medseg", device="cpu")


def test_predict_takes_words_for_all_images_and_never_mixes_them(
    path: Path, tmp_path: Path
) -> None:
    for index in range(2):
        save_image(tmp_path / "in" / f"{index}.png", noise(index, size=(40, 50)))
    out = tmp_path / "out"
    said = medseg("predict", path, tmp_path / "in", "-o", out, "--text", "a small polyp")
    assert (said.code, said.out) == (0, f"2 masks written to {out}\n")
    with Image.open(out / "1.png") as picture:
        assert set(np.unique(np.asarray(picture))) == {0, 255}
    again = medseg("predict", path, tmp_path / "in", "-o", out, "--text", "a small polyp")
    assert "2 were there already" in again.out
    other = medseg("predict", path, tmp_path / "in", "-o", out, "--text", "nuclei")
    assert other.code == 2
    assert "it holds masks of another model or made with other options" in other.message


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--text", " "], "--text: it says nothing"),
        (["--point", "1,1"], "it does not take points. It takes text"),
    ],
)
def test_predict_refuses_what_says_nothing_to_it(
    options: list[str], named: str, path: Path, tmp_path: Path
) -> None:
    save_image(tmp_path / "0.png", noise())
    refused = medseg("predict", path, tmp_path / "0.png", "-o", tmp_path / "out", *options)
    assert refused.code == 2
    assert named in refused.message
