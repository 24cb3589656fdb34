from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch

from medseg import systems
from medseg.models import create_model
from medseg.systems import load_card
from medseg.systems.card import LEVELS, Kind

NAMES = systems.names()
ROOT = Path(__file__).parents[2]
PROMPTS = {"point", "box", "scribble", "mask", "text", "support"}


def test_cards_are_loaded_without_torch_and_scipy() -> None:
    code = (
        "import sys; from medseg import systems\n"
        "cards = [systems.load_card(name) for name in systems.names()]\n"
        "assert len(cards) >= 3\n"
        "print([m for m in ('torch', 'scipy', 'numpy') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", NAMES)
def test_a_cards_name_is_the_name_it_is_found_by(name: str) -> None:
    assert systems.load_card(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_a_cards_parameter_count_is_true(name: str) -> None:
    with torch.device("meta"):
        net = create_model(name)
    count = sum(p.numel() for p in net.parameters())
    assert systems.load_card(name).fidelity.parameters == count


@pytest.mark.parametrize(("name", "dims"), [(n, d) for n in NAMES for d in load_card(n).dims])
def test_a_system_keeps_the_size_of_the_image(name: str, dims: int) -> None:
    size = {2: (37, 50), 3: (9, 37, 50)}[dims]
    option = {"dims": dims} if len(load_card(name).dims) > 1 else {}
    classes = 1 if load_card(name).prompts else 9
    with torch.device("meta"):
        net = create_model(name, in_channels=1, num_classes=classes, **option).eval()
        logits = net(torch.empty(2, 1, *size))
    assert logits.shape == (2, classes, *size)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_cites_its_source(name: str) -> None:
    card = systems.load_card(name)
    assert card.title
    assert card.authors
    assert card.year > 1990
    assert card.reference.startswith("https://")


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_kind_of_thing_it_is_in_words_that_are_known(name: str) -> None:
    card = load_card(name)
    assert card.kind in get_args(Kind)
    assert card.fidelity.level in LEVELS
    assert set(card.prompts) <= PROMPTS
    assert card.dims in ((2,), (3,), (2, 3))


def test_presets_are_of_the_family_of_what_they_are_presets_of() -> None:
    assert load_card("cmunext").family == load_card("cmunext-l").family == "cmunext"
    assert load_card("unet-efficientnet-b0").family == "unet"


@pytest.mark.parametrize(
    ("name", "file"),
    [(name, file) for name in NAMES for file in sorted(set(load_card(name).measured.values()))],
)
def test_what_a_card_was_measured_on_names_it_in_the_results(name: str, file: str) -> None:
    path = ROOT / file
    scores = path / "results.csv" if path.is_dir() else path
    text = scores.read_text(encoding="utf-8")
    datasets = [data for data, at in load_card(name).measured.items() if at == file]
    assert [word for word in (name, *datasets) if word not in text] == []
