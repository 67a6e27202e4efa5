"""Tables of results.json. Does not import torch."""

from typing import Any


def report(results: dict[str, Any]) -> str:
    """Format results as Markdown: machines, then state and figures of each part."""
    figures = results["figures"]
    lines = ["# GPU benchmarks", "", f"`{_command(results['setup'])}`, started {results['started']}", ""]
    for machine in dict.fromkeys(_machine(figure) for figure in figures):
        lines += [f"- {machine}"]
    lines += ["", "| part | state | seconds | note |", "|---|---|---|---|"]
    lines += [f"| {p['name']} | {p['state']} | {p['seconds']:.0f} | {_cell(p['note'])} |" for p in results["parts"]]
    for part in results["parts"]:
        own = [figure for figure in figures if figure["part"] == part["name"]]
        lines += ["", f"## {part['name']}: {part['title']}", ""]
        if not own:
            lines += [f"No figure: {part['state']}."]
            continue
        lines += ["| figure | value | unit | limit | share of the limit | note |", "|---|---|---|---|---|---|"]
        lines += [_row(figure) for figure in own]
    return "\n".join(lines) + "\n"


def _command(setup: dict[str, Any]) -> str:
    device = "" if setup["device"] == "cuda" else f" --device {setup['device']}"
    return f"python -m benchmarks.gpu{device}{' --tiny' if setup['tiny'] else ''}"


def _machine(figure: dict[str, Any]) -> str:
    card = figure["gpu"] or figure["device"]
    driver = f", driver {figure['driver']}" if figure["driver"] else ""
    return f"{card}{driver}, " + ", ".join(f"{name} {number}" for name, number in figure["versions"].items())


def _row(figure: dict[str, Any]) -> str:
    share = "" if figure["share"] is None else f"{figure['share']:.1%}"
    cells = (_number(figure["value"]), figure["unit"], _number(figure["limit"], ""), share, figure["note"])
    return f"| {' | '.join(_cell(cell) for cell in (figure['name'], *cells))} |"


def _number(value: Any, absent: str = "none") -> str:
    """Format a number: with commas from 1,000, otherwise with four digits."""
    if value is None:
        return absent
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
