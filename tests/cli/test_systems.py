from __future__ import annotations

import json

import pytest

from commands import medseg
from medseg import systems
from medseg.benchmark.efficiency import Efficiency
from medseg.cli.systems import _table
from medseg.systems.card import LEVELS

NAMES = list(systems.names())


def test_the_list_has_a_line_for_every_system() -> None:
    listed = medseg("systems", "list")
    assert (listed.code, listed.err) == (0, "")
    head, *lines = listed.out.splitlines()
    assert head.split() == [
        "system", "parameters", "axes", "kind", "family", "prompts", "fidelity", "measured", "on",
        "summary",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines] == NAMES


def test_a_line_says_what_its_card_says() -> None:
    (line,) = [x for x in medseg("systems", "list").out.splitlines() if x.startswith("unetpp ")]
    assert line.split()[1:8] == ["9,049,572", "2D", "3D", "network", "unetpp", "-", "parity"]


@pytest.mark.parametrize("width", [40, 60, 80, 149])
def test_a_narrow_terminal_gets_few_columns_and_no_line_too_long(width: int) -> None:
    table = _table([systems.load_card(name) for name in NAMES], width)
    head, *lines = table.splitlines()
    assert head.split()[:3] == ["system", "parameters", "axes"]
    assert "fidelity" not in head
    assert max(map(len, lines)) <= width
    assert [line.split()[0] for line in lines] == NAMES


@pytest.mark.parametrize(
    ("name", "count"),
    [("mk-unet-t", "27.4 k"), ("med2d-segnet", "2.07 M"), ("stu-net-h", "1.46 G")],
)
def test_a_narrow_terminal_gets_rounded_numbers(name: str, count: str) -> None:
    _, line = _table([systems.load_card(name)], 40).splitlines()
    assert count in line


def test_the_list_can_be_of_volumes_or_of_a_family_alone() -> None:
    def names(*options: object) -> list[str]:
        return [
            card["name"] for card in json.loads(medseg("systems", "list", "--json", *options).out)
        ]

    assert names("--dims", 3) == [n for n in NAMES if 3 in systems.load_card(n).dims]
    assert names("--family", "cmunext") == ["cmunext", "cmunext-l", "cmunext-s"]
    assert names("--family", "cmunext", "--dims", 3) == []


def test_an_unknown_family_is_answered_with_the_nearest() -> None:
    refused = medseg("systems", "list", "--family", "cmunex")
    assert refused.code == 2
    assert "Did you mean 'cmunext'?" in refused.err


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
    assert f"fidelity    {card.fidelity.level}: {LEVELS[card.fidelity.level]}" in shown.out
    assert all(file in shown.out for file in card.measured.values())
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


MEASURED = Efficiency(
    system="unet-narrow", image_size=64, channels=3, classes=1, parameters=1_944_049,
    macs=190_000_000, inference_peak_mb=21.4, training_peak_mb=None, training_forecast_mb=300.2,
    batch_size=8, latency_ms_median=12.34, latency_ms_iqr=0.56, runs=20, threads=2,
    onnx_note="needs medseg[export]",
)  # fmt: skip


def test_measure_shows_what_the_system_costs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        "medseg.benchmark.efficiency.measure",
        lambda name, image_size: asked.append((name, image_size)) or MEASURED,
    )
    shown = medseg("systems", "show", "unet-narrow", "--measure", "--image-size", "64")
    assert shown.code == 0
    assert asked == [("unet-narrow", 64)]
    assert "0.190 G" in shown.out
    assert "12.3 ms, median of 20; IQR 0.6 ms; 2 threads" in shown.out
    assert "latency, ONNX Runtime   needs medseg[export]" in shown.out
    assert "not told by this system, 8 images (forecast 300 MB)" in shown.out
    as_json = medseg("systems", "show", "unet-narrow", "--measure", "--json")
    assert json.loads(as_json.out)["efficiency"] == MEASURED.to_dict()
    assert asked[1] == ("unet-narrow", 256)


def test_an_image_size_without_measure_is_refused() -> None:
    refused = medseg("systems", "show", "unet", "--image-size", "64")
    assert refused.code == 2
    assert "Add --measure" in refused.err
