from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from medseg.export.web.markdown import to_html


def test_headings_lists_tables_and_paragraphs_become_html() -> None:
    card = "# Title\n\nOne\nline, **bold**.\n\n- a\n- `b`\n\n| x | y |\n|---|:-:|\n| 1 | 2 |\n"
    assert to_html(card).splitlines() == [
        "<h3>Title</h3>",
        "<p>One line, <strong>bold</strong>.</p>",
        "<ul><li>a</li><li><code>b</code></li></ul>",
        '<table><thead><tr><th scope="col">x</th><th scope="col">y</th></tr></thead>'
        "<tbody><tr><td>1</td><td>2</td></tr></tbody></table>",
    ]


@given(st.text(alphabet="<>&\"'=/#*`|-: \nascript", max_size=200))
def test_no_text_brings_a_tag_of_its_own(text: str) -> None:
    ours = r"</?(h[3-6]|p|ul|li|table|thead|tbody|tr|td|strong|code)>|<th scope=\"col\">|</th>"
    assert not re.search("[<>]", re.sub(ours, "", to_html(text)))
