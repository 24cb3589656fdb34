"""From sentences to the numbers of their pieces.

Byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909) with CLIP's vocabulary, through
transformers; or the bytes of a sentence, for networks that know no vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import ModelError
from medseg.extras import needed_by

VOCABULARY, MERGES = "vocab.json", "merges.txt"
START, END = "<|startoftext|>", "<|endoftext|>"
BYTES = 256
"""Pieces of a vocabulary of bytes, besides start and end."""


class Words(nn.Module):
    """Cuts sentences into the pieces of a vocabulary, and is stored with the network's weights.

    Args:
        pieces: that the network can tell apart.
        length: of a sentence at most, with its start and end; what is beyond is cut off.
        vocabulary: ``{"vocab": {piece: number}, "merges": ["a b", ...]}`` of byte-pair encoding;
            by default sentences are cut into their bytes.

    Raises:
        ValueError: the vocabulary does not fit the network, or is none.
    """

    def __init__(self, pieces: int, length: int, vocabulary: dict[str, Any] | None = None) -> None:
        super().__init__()
        if length < 3 or pieces < BYTES + 2:
            raise ValueError(f"{pieces} pieces, {length} of them in a sentence, are too few")
        self.pieces = pieces
        self.length = length
        self._use(vocabulary or {})

    def numbers(self, sentence: str) -> list[int]:
        """The pieces of a sentence between start and end."""
        known = self._known.get(sentence)
        if known is None:
            known = self._known[sentence] = self._cut(sentence)
        return known

    def forward(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """``(N, L)`` int64 numbers, those after a sentence's end being its end once more, and
        ``(N,)`` int64, where the ends are; on the CPU."""
        each = [self.numbers(sentence) for sentence in sentences]
        longest = max(map(len, each))
        numbers = [found + found[-1:] * (longest - len(found)) for found in each]
        return torch.tensor(numbers), torch.tensor([len(found) - 1 for found in each])

    def get_extra_state(self) -> Tensor:
        """The vocabulary as JSON in bytes."""
        text = json.dumps(self._vocabulary, ensure_ascii=False, separators=(",", ":"))
        return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take a stored vocabulary.

        Raises:
            ValueError: it is none, or does not fit the network.
        """
        self._use(json.loads(bytes(state.cpu().numpy())))

    def _use(self, vocabulary: dict[str, Any]) -> None:
        self._vocabulary = vocabulary
        self._known: dict[str, list[int]] = {}
        self._cutter = _Cutter(vocabulary, self.pieces) if vocabulary else None

    def _cut(self, sentence: str) -> list[int]:
        most = self.length - 2
        if self._cutter is None:
            return [BYTES, *sentence.lower().encode()[:most], BYTES + 1]
        first, *inside, last = self._cutter(sentence)
        return [first, *inside[:most], last]


class _Cutter:
    """CLIP's byte-pair encoding; never changes, so that copies share it."""

    def __init__(self, vocabulary: dict[str, Any], pieces: int) -> None:
        with needed_by("network.weights"):
            from transformers import CLIPTokenizer
        vocab, merges = vocabulary.get("vocab"), vocabulary.get("merges")
        if not isinstance(vocab, dict) or not isinstance(merges, list):
            raise ValueError("a vocabulary holds vocab and merges")
        if not {START, END} <= vocab.keys():
            raise ValueError(f"the vocabulary does not hold {START} and {END}")
        if not all(isinstance(n, int) and 0 <= n < pieces for n in vocab.values()):
            raise ValueError(f"the vocabulary holds numbers beyond the network's {pieces} pieces")
        pairs: Any = [tuple(merge.split(" ")) for merge in merges]
        self._encode = CLIPTokenizer(vocab=vocab, merges=pairs)

    def __call__(self, sentence: str) -> list[int]:
        return list(self._encode(sentence)["input_ids"])

    def __deepcopy__(self, memo: dict[int, Any]) -> _Cutter:
        return self


def read_vocabulary(folder: Path) -> dict[str, Any]:
    """The vocabulary that is published with CLIP and its descendants.

    Args:
        folder: holds ``vocab.json`` and ``merges.txt``.

    Raises:
        ModelError: it does not, or they cannot be read.
    """
    remedy = f"Put {VOCABULARY} and {MERGES} there, as they are published with the weights"
    place = folder / VOCABULARY
    try:
        vocab = json.loads(place.read_text(encoding="utf-8"))
        place = folder / MERGES
        lines = place.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise ModelError(place, "there is no such file", remedy) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(place, f"it cannot be read ({error})", remedy) from error
    rules = lines[1:] if lines[0].startswith("#version") else lines
    merges = [rule.rstrip("\r") for rule in rules if rule.strip()]
    if not isinstance(vocab, dict) or any(len(rule.split(" ")) != 2 for rule in merges):
        raise ModelError(folder, "its vocabulary is not one of byte pairs", remedy)
    return {"vocab": vocab, "merges": merges}
