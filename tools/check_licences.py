"""Fail when a package that medseg or one of its extras installs is not under a permissive licence.

Packages that only develop and test it (the extra ``dev``) are not asked.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Identifiers of SPDX, and the names that older metadata uses for the same licences.
PERMISSIVE = {
    *("apache-2.0", "apache-2.0 with llvm-exception"),
    *("0bsd", "bsd-2-clause", "bsd-3-clause", "bsl-1.0", "cc0-1.0", "hpnd", "isc"),
    *("mit", "mit-0", "mit-cmu", "ncsa", "ofl-1.1", "psf-2.0", "python-2.0", "unlicense", "zlib"),
    *(
        "apache",
        "apache 2.0",
        "apache license",
        "apache license 2.0",
        "apache license, version 2.0",
    ),
    *("apache software license", "bsd", "bsd license", "bsd license (3-clause)", "3-clause bsd"),
    "3-clause bsd license",
    *(
        "isc license",
        "isc license (iscl)",
        "mit license",
        "psf",
        "python software foundation license",
    ),
}
# Licences read and accepted, by package and what it declares: a change is looked at again.
CHECKED = {
    (
        "certifi",
        "Mozilla Public License 2.0 (MPL 2.0)",
    ): "copyleft by file; medseg neither changes nor contains its files",
    ("regex", "Apache-2.0 AND CNRI-Python"): "both permissive; the second is that of Python 1.6",
    ("transformers", "Apache 2.0 License"): "Apache-2.0 by another name",
    ("tqdm", "MPL-2.0 AND MIT"): "copyleft by file; medseg neither changes nor contains its files",
}


def licences(package: metadata.Distribution) -> list[str]:
    """The licences a package declares, the most exact field first; empty when it names none."""
    fields = package.metadata
    if expressions := fields.get_all("License-Expression"):
        return list(expressions)
    classifiers = [
        line.rsplit(" :: ", 1)[-1]
        for line in fields.get_all("Classifier", [])
        if line.startswith("License :: ") and line != "License :: OSI Approved"
    ]
    if classifiers:
        return classifiers
    # Some packages put the whole text here, which no list of names can judge.
    return [line for line in fields.get_all("License", []) if line and "\n" not in line]


def permitted(licence: str) -> bool:
    """Whether an SPDX expression, or an older name, allows use without conditions on our code.

    Of alternatives (OR) one must be permissive, of parts (AND) each.

    >>> permitted("MIT AND (Apache-2.0 OR GPL-3.0-only)"), permitted("LGPL-3.0-or-later")
    (True, False)
    """
    name = licence.strip().lower()
    if name in PERMISSIVE:
        return True
    inner = re.search(r"\(([^()]*)\)", licence)
    if inner and re.search(r"\b(AND|OR)\b", licence):
        verdict = "MIT" if permitted(inner[1]) else "not-permitted"
        return permitted(licence[: inner.start()] + verdict + licence[inner.end() :])
    for word, combine in ((r"\s+OR\s+", any), (r"\s+AND\s+", all)):
        parts = re.split(word, licence)
        if len(parts) > 1:
            return combine(permitted(part) for part in parts)
    return False


def installed(requirements: Iterable[str]) -> dict[str, metadata.Distribution]:
    """The packages that ``requirements`` and their own requirements resolve to here.

    Raises:
        metadata.PackageNotFoundError: one that this platform needs is not installed.
    """
    found: dict[str, metadata.Distribution] = {}
    visited: set[tuple[str, str]] = set()
    waiting = [(Requirement(line), "") for line in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        found[name] = metadata.distribution(requirement.name)
        for chosen in ("", *requirement.extras):
            if (name, chosen) not in visited:
                visited.add((name, chosen))
                needs = found[name].requires or []
                waiting += [(Requirement(line), chosen) for line in needs]
    return found


def problems(packages: dict[str, metadata.Distribution]) -> list[str]:
    """One line for each package that is not known to be permissive."""
    lines = []
    for name, package in sorted(packages.items()):
        declared = licences(package)
        text = "; ".join(declared) or "no licence named"
        if (name, text) not in CHECKED and not (declared and all(map(permitted, declared))):
            lines.append(f"{name} {package.version}: {text}")
    return lines


def main() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    users = [line for name, lines in extras.items() if name != "dev" for line in lines]
    packages = installed([*project["dependencies"], *users])
    if found := problems(packages):
        sys.exit(
            "Not known to be permissive; replace the package, or read its licence and add it to "
            "CHECKED with the reason:\n  " + "\n  ".join(found)
        )
    print(f"{len(packages)} packages, all under permissive licences")


if __name__ == "__main__":
    main()
