"""What the documents show is what the repository holds."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def test_every_snippet_of_the_tutorial_is_the_examples_own_code() -> None:
    snippets = re.findall(r"```(?:python|toml)\n(.*?)```", (ROOT / "docs/plugins.md").read_text(), re.DOTALL)
    files = [path.read_text() for path in (ROOT / "plugins/example").rglob("*") if path.suffix in (".py", ".toml")]
    assert len(snippets) >= 4
    for snippet in snippets:
        assert any(snippet.strip() in text for text in files), snippet


@pytest.mark.parametrize("document", ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])
def test_links_and_named_files_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    for target in LINK.findall(text):
        assert ((ROOT / document).parent / target).exists(), target
    for named in re.findall(r"`((?:composer|plugins|recipes|tests|docs)/[\w./-]+?\.(?:py|yaml|md))`", text):
        assert (ROOT / named).exists(), named
