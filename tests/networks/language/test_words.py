from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import ModelError
from medseg.networks.language.words import BYTES, Words, read_vocabulary

from .small import published

START, END = BYTES, BYTES + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published(tmp_path_factory.mktemp("published"), words=("polyp", "small"))


@pytest.fixture(scope="module")
def words(folder: Path) -> Words:
    return Words(BYTES + 2, 77, read_vocabulary(folder))


def test_without_a_vocabulary_a_sentence_is_its_bytes() -> None:
    assert Words(BYTES + 2, 77).numbers("Aé") == [START, ord("a"), 0xC3, 0xA9, END]


@given(sentence=st.text(max_size=40), length=st.integers(3, 30))
def test_a_sentence_is_cut_off_before_its_end(sentence: str, length: int) -> None:
    first, *inside, last = Words(BYTES + 2, length).numbers(sentence)
    assert (first, last) == (START, END)
    assert bytes(inside) == sentence.lower().encode()[: length - 2]


def test_short_sentences_are_filled_up_with_their_end() -> None:
    numbers, ends = Words(BYTES + 2, 77)(["ab", ""])
    assert numbers.tolist() == [[START, 97, 98, END], [START, END, END, END]]
    assert ends.tolist() == [3, 1]


def test_a_published_vocabulary_cuts_as_transformers_does(words: Words, folder: Path) -> None:
    from transformers import CLIPTokenizer

    reference = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    for sentence in ("a small polyp", "Polyps, and   nuclei", "", "polyp polyp"):
        assert words.numbers(sentence) == reference(sentence)["input_ids"]
    assert len(words.numbers("small polyp")) == 4


def test_a_long_sentence_in_pieces_keeps_its_end(folder: Path) -> None:
    words = Words(BYTES + 2, 6, read_vocabulary(folder))
    numbers = words.numbers("polyp " * 9)
    assert len(numbers) == 6
    assert numbers[-1] == END


@pytest.mark.parametrize("kind", ["bytes", "published"])
def test_it_is_stored_and_copied_with_the_weights(kind: str, words: Words) -> None:
    made = words if kind == "published" else Words(BYTES + 2, 77)
    others = [Words(BYTES + 2, 77), copy.deepcopy(made)]
    others[0].load_state_dict(made.state_dict())
    for other in others:
        assert other.numbers("small polyp") == made.numbers("small polyp")
        assert torch.equal(other.get_extra_state(), made.get_extra_state())


@pytest.mark.parametrize(
    ("vocabulary", "named"),
    [
        ({"vocab": {}}, "holds vocab and merges"),
        ({"vocab": {"a": 0}, "merges": []}, "does not hold"),
        ({"vocab": {"<|startoftext|>": 0, "<|endoftext|>": 999}, "merges": []}, "258 pieces"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_an_error(vocabulary: object, named: str) -> None:
    state = torch.tensor(list(json.dumps(vocabulary).encode()), dtype=torch.uint8)
    with pytest.raises(ValueError, match=named):
        Words(BYTES + 2, 77).set_extra_state(state)


def test_too_few_pieces_are_an_error() -> None:
    with pytest.raises(ValueError, match="100 pieces"):
        Words(100, 77)


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("vocab.json", None, r"vocab\.json.*no such file"),
        ("merges.txt", None, r"merges\.txt.*no such file"),
        ("vocab.json", "{", r"vocab\.json.*cannot be read"),
        ("vocab.json", "[]", "not one of byte pairs"),
        ("merges.txt", "p o l", "not one of byte pairs"),
    ],
)
def test_a_folder_without_a_vocabulary_is_an_error_that_names_the_file(
    file: str, content: str | None, named: str, tmp_path: Path
) -> None:
    (tmp_path / "vocab.json").write_text("{}")
    (tmp_path / "merges.txt").write_text("")
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    with pytest.raises(ModelError, match=named):
        read_vocabulary(tmp_path)
