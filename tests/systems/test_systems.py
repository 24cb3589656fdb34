from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from medseg import systems
from medseg.models import create_model

NAMES = systems.names()


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


@pytest.mark.parametrize("name", NAMES)
def test_a_system_keeps_the_size_of_the_image(name: str) -> None:
    with torch.device("meta"):
        net = create_model(name, in_channels=1, num_classes=9).eval()
        logits = net(torch.empty(2, 1, 37, 50))
    assert logits.shape == (2, 9, 37, 50)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_cites_its_source(name: str) -> None:
    card = systems.load_card(name)
    assert card.title
    assert card.authors
    assert card.year > 1990
    assert card.reference.startswith("https://")
