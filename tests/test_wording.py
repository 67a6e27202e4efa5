"""What users read (pages, messages, help) is plain American English: none of the phrases below."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PHRASES = {
    r"\bwhere (it (is|has|can|cannot|does)|they|there|none|no|nothing)\b": "if ...",
    r"\bbeside\b": "next to, along with, compared with",
    r"\b(go|goes|went|going) on\b(?! (a|an|the)\b)": "resume, continue",
    r"\bat hand\b|\banew\b": "current, available; again",
    r"\bso many\b|\bwhat (becomes of|is to be)\b": "at most N; the resulting; to do",
    r"\b(mend|spoil)(s|ed|t)?\b": "fix; corrupt",
    r"\bwhole or\b|\bnewest whole\b": "atomically; complete",
    r"\bof another (architecture|header|kind|model|run|size)\b": "does not match; belongs to a different run",
    r"\b(set|put|left|laid) (aside|out|over)\b": "skipped; moved; merged over",
    r"\bpictures?\b|\bmedium\b": "frame, image, figure; media item",
    r"\b(tokens?|positions?|samples?|frames?|images?|videos?|times) an? (frame|step|second|batch|stage|row)\b": "per",
    r"\bin the place of\b": "instead of",
    r"\bnobody\b|\bmade (data|videos)\b": "not requested; synthetic",
    r"\b(behaviour|centre|colour|grey|licence|neighbour)s?\b": "color, gray",
    r"(al|gn|im|ar|ant)is(es?|ed|ing|ation)\b": "initialize",
}
"""Pattern: what to write instead."""

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "plugins/example/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(path for path in (ROOT / "recipes").rglob("*") if path.suffix in (".md", ".yaml")),
]
MODULES = [
    path for folder in ("composer", "plugins/composer_plugins") for path in sorted((ROOT / folder).rglob("*.py"))
]
HELP = ("help", "description", "epilog")
CALLS = (
    "Component",
    "_say",
    "info",
    "print",
    "require",
    "rank_zero_info",
    "rank_zero_warn",
    "warn",
    "warning",
    "write",
)

ALLOWED = {
    "`err_detect=explode` misses data that is left over, and a decoder in Python takes seconds per photo. So Pillow "
    "decodes a second",
    "all four, where no two or three determine the rest, does no harm (the table's rows). A test checks the generator "
    "for it.",
    "- **The loop over chunks must not index.** Layers that learn strong decays get short chunks, so many of them, and "
    "the backward pass of",
}
"""Exact lines in which a phrase has its ordinary meaning."""


def odd(text: str) -> list[str]:
    """The phrases in a text, each with its line and what to write instead."""
    return [
        f"{match[0]!r} (write: {instead}) in {line.strip()!r}"
        for line in text.splitlines()
        for pattern, instead in PHRASES.items()
        for match in re.finditer(pattern, line, re.IGNORECASE)
        if line.strip() not in ALLOWED
    ]


def shown(tree: ast.AST) -> Iterator[str]:
    """The string literals of a module that users see: those of raised errors, help, and what is printed or logged."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and _name(node.func) in CALLS):
            yield from texts(node)
        elif (isinstance(node, ast.keyword) and node.arg in HELP) or (
            isinstance(node, ast.Assign) and "SUMMARY" in map(_name, node.targets)
        ):
            yield from texts(node.value)


def texts(tree: ast.AST) -> Iterator[str]:
    """All string literals below a node."""
    leaves = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return (value for value in leaves if isinstance(value, str))


def _name(node: ast.AST) -> str:
    return getattr(node, "attr", None) or getattr(node, "id", "")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_are_in_plain_english(page: Path) -> None:
    assert odd(page.read_text()) == []


def test_messages_and_help_are_in_plain_english() -> None:
    found = {
        str(path.relative_to(ROOT)): phrases
        for path in MODULES
        if (phrases := [line for text in shown(ast.parse(path.read_text())) for line in odd(text)])
    }
    assert found == {}


def test_every_exception_is_needed() -> None:
    lines = {line.strip() for page in PAGES for line in page.read_text().splitlines()}
    assert lines >= ALLOWED
    assert all(re.search("|".join(PHRASES), line, re.IGNORECASE) for line in ALLOWED)


def test_odd_phrases_are_found() -> None:
    source = 'def f(x):\n    raise ValueError(f"{x}: none at hand, where it is missing")\n\nparser.add(help="beside")\n'
    assert [line.partition(" ")[0] for text in shown(ast.parse(source)) for line in odd(text)] == [
        "'where",
        "'at",
        "'beside'",
    ]
