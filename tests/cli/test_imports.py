"""What is asked for often and answers at once must not wait for PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

# Every command in turn in one process; after each, which heavy modules it has brought in.
SCRIPT = """
import io, json, sys
from contextlib import redirect_stdout
from medseg.cli import main
found = {}
for line in json.loads(sys.argv[1]):
    sys.argv = ["medseg", *line]
    try:
        with redirect_stdout(io.StringIO()):
            main()
    except SystemExit as stop:
        assert not stop.code, line
    heavy = {"torch", "scipy", "matplotlib", "accelerate", "tifffile"} & sys.modules.keys()
    found[" ".join(line)] = sorted(heavy)
print(json.dumps(found))
"""

HELP = [
    [],
    ["train"],
    ["predict"],
    ["evaluate"],
    ["benchmark"],
    ["explain"],
    ["compare"],
    ["data"],
    ["data", "check"],
    ["data", "split"],
    ["data", "plan"],
    ["data", "catalogue"],
    ["data", "add"],
    ["data", "remove"],
    ["info"],
    ["models"],
    ["models", "list"],
    ["serve"],
    ["systems"],
    ["systems", "list"],
    ["systems", "show"],
    ["demo"],
    ["doctor"],
]


def test_help_info_lists_and_the_doctor_import_neither_torch_nor_scipy(
    photos: Path, trained: Path
) -> None:
    lines = [
        *([*verb, "--help"] for verb in HELP),
        ["--version"],
        ["info", str(trained)],
        ["info", str(trained / "model.medseg"), "--json"],
        ["info", str(photos)],
        ["models", "list"],
        ["models", "list", "--json"],
        ["systems"],
        ["systems", "list", "--json"],
        ["data", "catalogue"],
        ["data", "catalogue", "show", "drive"],
        ["doctor"],
    ]
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(lines)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found == {" ".join(line): [] for line in lines}


def test_importing_the_package_imports_none_of_its_dependencies() -> None:
    script = (
        "import sys, medseg; print({'torch', 'numpy', 'pydantic', 'rich'} & sys.modules.keys())"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
