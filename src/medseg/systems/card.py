"""What a system is, where it comes from, and how far it has been verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal[
    "network", "method", "promptable", "text-driven", "adaptation", "generative", "fairness"
]
Level = Literal["parity", "golden", "properties", "reconstructed"]

LEVELS: Mapping[Level, str] = {
    "parity": "with the official code's weights it computes what the official code computes",
    "golden": "numbers computed by the official code are met by the tests",
    "properties": "what the publication states of it is tested; no official code was compared",
    "reconstructed": "parts that the publication leaves open are filled in here",
}
"""What each level of fidelity claims, from the most to the least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """What is known of an implementation against the published one.

    Attributes:
        parameters: ours, for 3 input channels and 1 class.
        official_parameters: counted of the official code or printed in the paper, in words.
        parity: numerical parity with official code, or why there is none.
        level: how much of the above is proved, see ``LEVELS``.
        from_authors: what is taken from the paper.
        reconstructed: what the paper leaves open and we filled in.
        deviations: where we differ on purpose, and why.
        reproduced: which published results were reproduced here, with numbers.
    """

    parameters: int
    official_parameters: str
    parity: str
    level: Level = "reconstructed"
    from_authors: tuple[str, ...] = ()
    reconstructed: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()
    reproduced: str = "none yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One published system.

    Attributes:
        name: the public slug.
        title: of the publication.
        authors: as cited.
        year: of first publication.
        reference: arXiv or DOI link.
        summary: what it does, in a sentence.
        family: systems that share an architecture or an idea; the name where nothing is said.
        kind: what is published: an architecture, a way of training, and so on.
        dims: spatial axes of the images it takes: 2, 3, or both, and then its network has an
            option ``dims``.
        prompts: kinds of prompts it takes: ``point``, ``box``, ``scribble``, ``mask``, ``text``,
            ``support``.
        network: ``module:class`` of the network, imported only when it is built.
        options: network options that differ from the class's defaults.
        recipe: recipe keys (dotted) that differ from the defaults.
        measured: by dataset, the file or folder below ``results/`` that holds its scores.
        fidelity: what was verified.
    """

    name: str
    title: str
    authors: str
    year: int
    reference: str
    summary: str
    family: str = ""
    kind: Kind = "network"
    dims: tuple[int, ...] = (2,)
    prompts: tuple[str, ...] = ()
    network: str
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, str] = field(default_factory=dict)
    fidelity: Fidelity

    def __post_init__(self) -> None:
        if not self.family:
            object.__setattr__(self, "family", self.name)


def axes(card: Card) -> str:
    """``2D``, ``3D`` or ``2D 3D``."""
    return " ".join(f"{dims}D" for dims in card.dims)


def taken(card: Card) -> str:
    """What the system takes, in words."""
    images = " and ".join({2: "images", 3: "volumes"}[dims] for dims in card.dims)
    return f"{images}; prompts: {', '.join(card.prompts)}" if card.prompts else images
