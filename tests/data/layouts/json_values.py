"""JSON as it may come from anywhere, for fuzzing layouts that read it."""

from __future__ import annotations

import copy
import unicodedata
from typing import Any

from hypothesis import strategies as st

_NAMES = st.one_of(
    st.text(st.characters(), max_size=8),
    st.sampled_from(
        ["a", "../a.png", "/etc/passwd", "a\0b", "x" * 300, "\ud800", "0", "1", "-1", "é", ".", ""]
    ),
)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.integers(),
    st.just(10**400),
    st.floats(allow_nan=True),
    _NAMES,
)
json_values: st.SearchStrategy[Any] = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(_NAMES, inner, max_size=4)
    ),
    max_leaves=8,
)


def is_one_line(text: str) -> bool:
    """Whether a terminal shows the text as one line and UTF-8 can hold it."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


@st.composite
def changed(draw: st.DrawFn, content: dict[str, Any]) -> dict[str, Any]:
    """``content`` with random values put, or keys removed, at up to three places at any depth."""
    result = copy.deepcopy(content)
    for _ in range(draw(st.integers(0, 3))):
        at: Any = result
        while at:
            key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            inner = at[key]
            if isinstance(inner, dict | list) and inner and draw(st.booleans()):
                at = inner
                continue
            if draw(st.booleans()):
                at[key] = draw(json_values)
            elif isinstance(at, dict):
                del at[key]
            break
    return result
