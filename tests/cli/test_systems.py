from __future__ import annotations

import json

import pytest

from commands import medseg
from medseg import systems

NAMES = list(systems.names())


def test_the_list_has_a_line_for_every_system() -> None:
    listed = medseg("systems", "list")
    assert (listed.code, listed.err) == (0, "")
    assert [line.split()[0] for line in listed.out.splitlines()] == NAMES


def test_list_is_what_systems_does_when_nothing_is_said() -> None:
    assert medseg("systems") == medseg("systems", "list")


def test_json_of_the_list_is_all_that_is_printed() -> None:
    listed = medseg("systems", "list", "--json")
    assert (listed.code, listed.err) == (0, "")
    cards = json.loads(listed.out)
    assert [card["name"] for card in cards] == NAMES
    assert all(card["reference"] and card["fidelity"]["parameters"] for card in cards)


@pytest.mark.parametrize("name", NAMES)
def test_a_card_shows_reference_fidelity_and_options(name: str) -> None:
    shown = medseg("systems", "show", name)
    assert (shown.code, shown.err) == (0, "")
    card = systems.load_card(name)
    assert card.reference in shown.out
    assert f"{card.fidelity.parameters:,}" in shown.out
    assert "--set network.NAME=VALUE" in shown.out


@pytest.mark.parametrize("name", NAMES)
def test_json_of_a_card_has_the_options_that_set_takes(name: str) -> None:
    shown = medseg("systems", "show", name, "--json")
    assert (shown.code, shown.err) == (0, "")
    card = json.loads(shown.out)
    listed = medseg("systems", "show", name).out.partition("options")[2]
    assert card["options"]
    assert all(f"  {option} = " in listed for option in card["options"])


def test_an_unknown_system_is_answered_with_the_nearest() -> None:
    refused = medseg("systems", "show", "med2d-segnett")
    assert refused.code == 2
    assert "med2d-segnett" in refused.err
    assert "Did you mean 'med2d-segnet'?" in refused.err
