"""Fail when the documentation links to a file or heading, or shows a command, that is not there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
COMMAND = re.compile(r"(?:^\s*(?:\$ )?(?:\S*/)?|`)medseg ([a-z][\w-]*)", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives to a page's headings."""
    titles = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path) -> list[str]:
    """The relative links of ``page`` that lead nowhere."""
    broken = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, fragment = link.partition("#")
        target = page.parent / name if name else page
        headed = target.suffix == ".md" and fragment
        if not target.exists() or (headed and fragment not in anchors(target)):
            broken.append(link)
    return broken


def verbs(page: Path) -> set[str]:
    """The verbs of the ``medseg`` commands that ``page`` shows in code."""
    text = page.read_text(encoding="utf-8")
    code = re.findall(r"^```.*?^```|`[^`\n]+`", text, re.DOTALL | re.MULTILINE)
    return {verb for part in code for verb in COMMAND.findall(part)}


def main() -> None:
    pages = [*Path().glob("*.md"), *Path("docs").rglob("*.md")]
    problems = [f"{page}: no {link}" for page in pages for link in broken_links(page)]
    medseg = Path(sys.executable).with_name("medseg")
    for verb in sorted({verb for page in pages for verb in verbs(page)}):
        if subprocess.run([medseg, verb, "--help"], capture_output=True).returncode != 0:
            shown = ", ".join(str(page) for page in pages if verb in verbs(page))
            problems.append(f"{shown}: no command `medseg {verb}`")
    if problems:
        sys.exit("\n".join(problems))
    print(f"{len(pages)} pages, all links and commands exist")


if __name__ == "__main__":
    main()
