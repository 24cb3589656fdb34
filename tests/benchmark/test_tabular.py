from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from medseg.benchmark.tabular import Entry, Table, latex, markdown

TEXT = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=12)


def table_of(*rows: tuple[str, ...]) -> Table:
    """A table whose second column is small print and whose third is bold."""
    entries = tuple((Entry(a), Entry("1", (b,)), Entry(c, (), True)) for a, b, c in rows)
    return Table("trial", "A caption.", ("Name", "x", "y"), entries, 1, (), ())


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=3))
def test_no_text_breaks_a_markdown_table(rows: list[tuple[str, str, str]]) -> None:
    body = markdown(table_of(*rows)).split("\n\n", 1)[1].splitlines()
    assert len(body) == len(rows) + 2
    for line in body:
        assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 4


@given(st.lists(st.tuples(TEXT, TEXT, TEXT), min_size=1, max_size=3))
def test_no_text_breaks_a_latex_table(rows: list[tuple[str, str, str]]) -> None:
    text = latex(table_of(*rows))
    plain = re.sub(r"\\[&%$#_{}]", "", text)
    assert plain.count("{") == plain.count("}")
    assert not set("%$#_~^<>|") & set(plain)
    body = plain.split("\\hline\n")[1].split("\\end{tabular}")[0].splitlines()
    assert len(body) == len(rows)
    assert all(line.count("&") == 2 and line.endswith(r"\\") for line in body)
