"""Recording of a part's figures, line by line, so that those of a killed part are kept. Does not import torch."""

import json
import os
import platform
import subprocess
import time
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "triton", "transformers", "flash-linear-attention", "timm", "lightning", "numpy")
Value = float | int | str | bool | None


@dataclass(frozen=True)
class Figure:
    """A measured number, or the reason why it is missing (value None and a note).

    limit: upper bound or prediction in the same unit. share: reached fraction of the limit.
    """

    part: str
    name: str
    value: Value
    unit: str
    limit: float | None
    share: float | None
    note: str
    device: str
    gpu: str | None
    driver: str | None
    versions: dict[str, str]
    command: str
    date: str


class Recorder:
    """Appends the figures of one part to `figures/PART.jsonl`. device: `cuda` or `cpu`."""

    def __init__(self, output: Path, part: str, device: str, command: str) -> None:
        self.path, self.part, self.device, self.command = output / "figures" / f"{part}.jsonl", part, device, command
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _end_line(self.path)

    def add(
        self,
        name: str,
        value: Value,
        unit: str = "",
        *,
        limit: float | None = None,
        higher_is_better: bool | None = None,
        note: str = "",
    ) -> None:
        """Write a figure. Its share of the limit is computed if `higher_is_better` is set."""
        share = None
        if limit and isinstance(value, int | float) and value and higher_is_better is not None:
            share = value / limit if higher_is_better else limit / value
        gpu, driver = gpu_and_driver() if self.device == "cuda" else (None, None)
        date = time.strftime("%Y-%m-%d %H:%M")
        figure = Figure(
            self.part, name, value, unit, limit, share, note, self.device, gpu, driver, versions(), self.command, date
        )
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(figure)) + "\n")
        shown = "none" if value is None else f"{value:,.4g}" if isinstance(value, float) else str(value)
        print(f"{name}: {shown} {unit} {f'({share:.1%} of the limit)' if share else ''} {note}".rstrip(), flush=True)


def read_figures(path: Path) -> list[dict[str, Any]]:
    """Read the complete lines of a part's file. Later figures override earlier ones, unless they have no value."""
    figures: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            figure = json.loads(line)
        except json.JSONDecodeError:  # the part was killed while writing this line
            continue
        before = figures.get(figure["name"])
        if before is None or before["value"] is None or figure["value"] is not None:
            figures[figure["name"]] = figure
    return list(figures.values())


@cache
def versions() -> dict[str, str]:
    """Versions of Python, this checkout (its commit) and the packages that determine the speed."""
    installed = {"python": platform.python_version(), "commit": _output("git", "rev-parse", "--short", "HEAD") or ""}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            installed[package] = "not installed"
    return installed


@cache
def gpu_and_driver() -> tuple[str | None, str | None]:
    """Name and driver of the first GPU; None if nvidia-smi does not report them."""
    line = _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    name, _, driver = (line or "").partition("\n")[0].partition(", ")
    return name or None, driver or None


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=Path(__file__).parent)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _end_line(path: Path) -> None:
    """Terminate the last line if a previous attempt was killed while writing it."""
    if path.is_file() and path.stat().st_size:
        with path.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
