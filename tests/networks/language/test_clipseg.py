from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from medseg.errors import ModelError, RecipeError
from medseg.models import create_model
from medseg.networks.language.clipseg import CLIPSeg
from medseg.networks.language.clipseg_size import PUBLISHED, TINY, configuration, size_of
from medseg.networks.language.text_network import Asked

from .small import SMALL, TEXTS, published, small, waves


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published(tmp_path_factory.mktemp("published"))


def test_published_weights_give_the_logits_that_transformers_gives(folder: Path) -> None:
    from transformers import CLIPSegForImageSegmentation, CLIPTokenizer

    cut = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    reference = CLIPSegForImageSegmentation.from_pretrained(folder, local_files_only=True).eval()
    ours = CLIPSeg(weights=str(folder)).eval()
    image = waves(2, 3, 40, 40, dtype=torch.float32)
    with torch.no_grad():
        expected = reference(
            **cut(list(TEXTS), padding=True, return_tensors="pt"),
            pixel_values=(image - ours.mean) / ours.std,
        ).logits
        found = ours(image, TEXTS)
    torch.testing.assert_close(found[:, 0], expected)
    assert float(found.std()) > 0.1


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_stands_for_its_folder(name: str, folder: Path) -> None:
    ours = CLIPSeg(weights=str(folder / name))
    assert ours.size == {**SMALL, "taps": [1, 2, 3]}
    assert ours.words.numbers("polyp") == CLIPSeg(weights=str(folder)).words.numbers("polyp")


def test_older_files_are_read_too(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    positions = {"clip.text_model.embeddings.position_ids": torch.arange(77)[None]}
    torch.save(weights | positions, tmp_path / "pytorch_model.bin")
    for name in ("config.json", "vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    found = CLIPSeg(weights=str(tmp_path)).clipseg.state_dict()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def spoil(folder: Path, tmp_path: Path, change: Callable[[Path], object]) -> Path:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    change(tmp_path)
    return tmp_path


def configured(**changes: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def without_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["decoder.film_mul.weight"]
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda folder: (folder / "config.json").unlink(), r"config\.json: it is no configuration"),
        (configured(model_type="clip"), r"config\.json.*of 'clip', not of 'clipseg'"),
        (configured(reduce_dim="wide"), r"config\.json: it is no configuration"),
        (configured(extract_layers=[1, 2, 9]), "taps=.*must be layers"),
        (configured(conditional_layer=2), "in another way"),
        (configured(reduce_dim=16), r"model\.safetensors: it does not hold the weights"),
        (lambda folder: (folder / "model.safetensors").unlink(), "it holds no model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no"), "does not hold the"),
        (without_a_tensor, r"Missing key.*decoder\.film_mul\.weight"),
        (lambda folder: (folder / "vocab.json").unlink(), r"vocab\.json: there is no such file"),
    ],
)
def test_a_folder_that_cannot_be_used_is_an_error_that_names_the_file(
    change: Callable[[Path], object], named: str, folder: Path, tmp_path: Path
) -> None:
    place = spoil(folder, tmp_path, change)
    with pytest.raises((ModelError, RecipeError), match=named):
        create_model("vlsm-adapter", weights=str(place))


def test_nothing_is_downloaded() -> None:
    with pytest.raises(ModelError, match=r"CIDAS/clipseg-rd64-refined.*nothing is downloaded"):
        CLIPSeg(weights="CIDAS/clipseg-rd64-refined")


def test_the_published_size_is_that_of_the_published_configuration() -> None:
    published = configuration(PUBLISHED).to_dict()
    assert size_of(published) == PUBLISHED
    assert size_of(configuration(TINY).to_dict()) == TINY


@settings(max_examples=8, deadline=None)
@given(height=st.integers(1, 50), width=st.integers(1, 50))
def test_an_image_of_any_size_has_logits_of_its_size(height: int, width: int) -> None:
    with torch.no_grad():
        assert small("none")(waves(1, 3, height, width)).shape == (1, 1, height, width)


def test_what_is_asked_together_is_answered_as_alone() -> None:
    network, image = small("none"), waves(2, 3, 24, 40)
    sentences = ["a polyp", "", "nuclei of cells"]
    with torch.no_grad():
        together = network.ask(image, sentences)
        for place, sentence in enumerate(sentences):
            alone = network(image, [sentence] * 2)[:, 0]
            torch.testing.assert_close(together[:, place], alone, rtol=0, atol=1e-12)
        mixed = network(image, [sentences[2], sentences[0]])[:, 0]
    expected = torch.stack([together[0, 2], together[1, 0]])
    torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-12)
    assert not torch.allclose(together[:, 0], together[:, 2])


def test_without_a_sentence_it_is_asked_the_empty_one() -> None:
    network, image = small("none"), waves(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(network(image), network(image, ["", ""]))


def test_a_grey_image_is_one_of_three_equal_colours() -> None:
    image = waves(1, 1, 24, 16)
    with torch.no_grad():
        grey = small("none", channels=1)(image, ["a"])
        assert torch.equal(grey, small("none")(image.expand(-1, 3, -1, -1), ["a"]))


def test_as_many_texts_as_images_are_needed() -> None:
    with pytest.raises(ValueError, match="2 texts for 1 images"):
        small("none")(waves(1, 3, 8, 8), TEXTS)


def test_everything_that_is_trained_has_a_gradient() -> None:
    network = small("none")
    network(waves(2, 3, 16, 16), TEXTS).sum().backward()
    unused = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    still = {n.split(".")[2] for n, p in network.named_parameters() if not p.requires_grad}
    assert unused == []
    assert still == {"logit_scale", "vision_model", "visual_projection"}


def test_it_is_built_again_without_the_folder_of_its_weights(folder: Path) -> None:
    network = create_model("vlsm-adapter", weights=str(folder), width=3)
    options = network.portable({"weights": str(folder), "width": 3})  # type: ignore[operator]
    again = create_model("vlsm-adapter", **json.loads(json.dumps(options)))
    again.load_state_dict(network.state_dict())
    assert str(folder) not in json.dumps(options)
    with torch.no_grad():
        image = waves(1, 3, 16, 16, dtype=torch.float32)
        assert torch.equal(again(image, ["a polyp"]), network(image, ["a polyp"]))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"in_channels": 4}, "in_channels=4"),
        ({"num_classes": 2}, "num_classes=2"),
        ({"weights": "folder", "size": "tiny"}, "leave size out"),
        ({"size": "huge"}, "size"),
        ({"size": {**SMALL, "patch": 0}}, "patch"),
        ({"size": {**SMALL, "colour": 1}}, "colour"),
        ({"size": {**SMALL, "taps": [3, 1]}}, "taps"),
        ({"size": {**SMALL, "taps": [1, 2]}}, "2 taps"),
        ({"size": {**SMALL, "refined": True}}, "patch=8 must be 16"),
        ({"size": {**SMALL, "pieces": 9}}, "9 pieces"),
        ({"size": {**SMALL, "text": {"width": 9, "layers": 4, "heads": 2, "hidden": 2}}}, "heads"),
    ],
)
def test_options_that_cannot_be_used_are_errors_that_name_them(
    options: dict[str, Any], named: str
) -> None:
    with pytest.raises(RecipeError, match=named):
        create_model("vlsm-adapter", **options)


def test_asked_for_one_thing_it_gives_one_logit() -> None:
    network, image = small("none"), waves(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(Asked(network, ["nuclei"])(image), network(image, ["nuclei"] * 2))


def test_asked_for_several_things_a_pixel_is_of_the_likeliest_above_a_half() -> None:
    network, image = small("none"), 3 * waves(2, 3, 16, 16)
    with torch.no_grad():
        shares = network.ask(image, TEXTS).sigmoid()
        found = Asked(network, TEXTS)(image).argmax(1)
    likeliest, which = shares.max(1)
    assert torch.equal(found, torch.where(likeliest > 0.5, which + 1, 0))
    assert len(found.unique()) > 1
