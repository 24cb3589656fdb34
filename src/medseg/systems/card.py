"""What a system is, where it comes from, and how far it has been verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """What is known of an implementation against the published one.

    Attributes:
        parameters: ours, for 3 input channels and 1 class.
        official_parameters: counted of the official code or printed in the paper, in words.
        parity: numerical parity with official code, or why there is none.
        from_authors: what is taken from the paper.
        reconstructed: what the paper leaves open and we filled in.
        deviations: where we differ on purpose, and why.
        reproduced: which published results were reproduced here, with numbers.
    """

    parameters: int
    official_parameters: str
    parity: str
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
        network: ``module:class`` of the network, imported only when it is built.
        options: network options that differ from the class's defaults.
        recipe: recipe keys (dotted) that differ from the defaults.
        fidelity: what was verified.
    """

    name: str
    title: str
    authors: str
    year: int
    reference: str
    summary: str
    network: str
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    fidelity: Fidelity
