from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from medseg.errors import RecipeError
from medseg.losses.region import cross_entropy
from medseg.models import create_model
from medseg.networks.language.vlsm_adapter import Parts, Places, VLSMAdapter

from .small import SMALL, TEXTS, small, waves

TRAINED: Mapping[tuple[Places, Parts], int] = {
    ("shallow", "v"): 2_363_136,
    ("shallow", "vl"): 3_939_072,
    ("shallow", "vlc"): 4_201_984,
    ("dense", "v"): 1_784_448,
    ("dense", "vl"): 2_974_464,
    ("dense", "vlc"): 3_237_376,
}
# The mean, the mean square and two of the logits of the official code, in double precision.
OFFICIAL: Mapping[tuple[Places, Parts], tuple[float, ...]] = {
    ("none", "v"): (-0.1765301071, 0.0768729347, -0.1367008344, -0.2939010254),
    ("shallow", "v"): (-0.1504739423, 0.1176452903, -0.6093505983, 0.1423625638),
    ("shallow", "vl"): (-0.1507504761, 0.1160949298, -0.6034201315, 0.1378335289),
    ("shallow", "vlc"): (-0.1733077534, 0.0751777312, -0.2572173415, -0.189529578),
    ("dense", "v"): (-0.1662322518, 0.0914438749, -0.6019847737, -0.2752097292),
    ("dense", "vl"): (-0.1662303673, 0.0914257869, -0.6020353201, -0.2751457092),
    ("dense", "vlc"): (-0.1701216257, 0.062363959, -0.2807725714, -0.1499200626),
}
EVERY = pytest.mark.parametrize(("adapters", "parts"), TRAINED)
CLIPSEG = 150_747_746


@EVERY
def test_it_trains_as_many_weights_as_the_official_code(adapters: Places, parts: Parts) -> None:
    with torch.device("meta"):
        network = VLSMAdapter(adapters=adapters, parts=parts)
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trained == TRAINED[adapters, parts]
    assert sum(p.numel() for p in network.parameters()) == CLIPSEG + trained


def test_dense_adapters_stand_twice_in_each_of_nine_layers_of_both_towers() -> None:
    per_layer = [2 * (2 * width * 64 + 64 + width) for width in (768, 512)]
    assert TRAINED["dense", "vl"] == 9 * sum(per_layer)


@pytest.mark.parametrize(("adapters", "parts"), OFFICIAL)
def test_its_logits_are_those_of_the_official_code(adapters: Places, parts: Parts) -> None:
    with torch.no_grad():
        logits = small(adapters, parts)(waves(2, 3, 32, 32), TEXTS)
    found = (logits.mean(), logits.square().mean(), logits[0, 0, 5, 7], logits[1, 0, 20, 30])
    assert [float(each) for each in found] == pytest.approx(OFFICIAL[adapters, parts], abs=1e-9)


def with_silent_adapters(adapters: Places, parts: Parts) -> tuple[VLSMAdapter, VLSMAdapter]:
    """Adapters whose second layers are 0, and the same CLIPSeg without any."""
    network, plain = small(adapters, parts), small("none")
    plain.clipseg.load_state_dict(network.clipseg.state_dict())
    for name, parameter in network.named_parameters():
        if ".up." in name:
            nn.init.zeros_(parameter)
    return network, plain


@pytest.mark.parametrize(
    ("adapters", "parts"),
    [("shallow", "v"), ("dense", "v"), ("dense", "vl"), ("dense", "vlc")],
)
def test_without_their_second_layers_the_adapters_change_nothing(
    adapters: Places, parts: Parts
) -> None:
    network, plain = with_silent_adapters(adapters, parts)
    image = waves(2, 3, 32, 24)
    with torch.no_grad():
        assert torch.equal(network(image, TEXTS), plain(image, TEXTS))


@pytest.mark.parametrize("parts", ["vl", "vlc"])
def test_shallow_adapters_add_what_the_text_tower_holds_to_the_sentences_vector(
    parts: Parts,
) -> None:
    network, plain = with_silent_adapters("shallow", parts)
    with torch.no_grad():
        _, layers = plain.read(TEXTS)
        expected = plain.encode_text(TEXTS) + sum(layers[tap] for tap in (1, 2, 3))
        found = network.encode_text(TEXTS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@EVERY
def test_clipseg_stays_to_the_bit_while_the_loss_falls(adapters: Places, parts: Parts) -> None:
    network = small(adapters, parts, frozen=True)
    before = {name: each.clone() for name, each in network.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], 1e-2)
    image = waves(2, 3, 32, 32)
    mask = (image[:, 0] > image[:, 0].mean()).to(torch.uint8)
    losses = []
    for _ in range(6):
        loss = cross_entropy(network(image, TEXTS), mask)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = network.state_dict()
    assert all(each.grad is None for each in network.clipseg.parameters())
    assert losses[-1] < losses[0]
    for name in dict(network.named_parameters()):
        assert torch.equal(after[name], before[name]) == name.startswith("clipseg."), name


def test_a_copy_has_adapters_of_its_own() -> None:
    network, image = small("dense", "vl"), waves(1, 3, 16, 16)
    with torch.no_grad():
        before = network(image)
        other = copy.deepcopy(network)
        assert torch.equal(other(image), before)
        for parameter in other.image_adapters.parameters():
            parameter.add_(1)
        assert torch.equal(network(image), before)
        assert not torch.equal(other(image), before)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"adapters": "none", "frozen": True}, "nothing to be trained"),
        ({"adapters": "deep"}, "adapters"),
        ({"parts": "l"}, "parts"),
        ({"width": 0}, "width=0"),
        ({"parts": "vlc", "condition_width": 0}, "width=0"),
        ({"adapters": "shallow", "size": {**SMALL, "common": 24}}, "12 is not that of .* 24"),
        (
            {
                "adapters": "shallow",
                "size": {**SMALL, "text": {"width": 12, "layers": 3, "heads": 2, "hidden": 4}},
            },
            "too few layers",
        ),
    ],
)
def test_options_that_cannot_be_used_are_errors_that_name_them(
    options: dict[str, Any], named: str
) -> None:
    with pytest.raises(RecipeError, match=named):
        create_model("vlsm-adapter", **{"size": SMALL, **options})
