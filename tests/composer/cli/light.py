"""Runs a command line in a fresh interpreter, with plugins of a folder, and says whether torch was loaded."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

CODE = """
import sys
from composer.cli import main
try:
    status = main(sys.argv[1:])
finally:
    print("torch" in sys.modules, file=sys.stderr)
sys.exit(status)
"""


class Ran(NamedTuple):
    status: int
    out: str
    err: str
    torch: bool


def run(*arguments: str, site: Path | None = None, folder: Path | None = None) -> Ran:
    """`composer ARGUMENTS` in `folder`."""
    path = os.pathsep.join(str(p) for p in (site, os.environ.get("PYTHONPATH")) if p)
    result = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path, "COLUMNS": "200"},
        cwd=folder,
    )
    err, _, torch = result.stderr.rstrip().rpartition("\n")
    return Ran(result.returncode, result.stdout, err, torch == "True")
