"""The documentation matches the repository."""

import re
import shlex
import shutil
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import torch

from composer.cli import main
from composer.errors import ConfigError
from composer.recipe.explain import validated
from composer.recipe.yamlfile import load_yaml
from composer.testing import check_backbone, check_encoder, check_projector, check_reducer
from tests.composer.stand_ins import SumBackbone
from tests.plugins.rwkv.author import random_model

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")

TUTORIAL = re.findall(r"```(?:python|toml)\n(.*?)```", (ROOT / "docs/plugins.md").read_text(), re.DOTALL)
WRITTEN = {"Pairs", "MergingEncoder", "InPlace", "Bottleneck", "ShrinkConfig"}
"""Classes that only the tutorial has; its other snippets are the example plugin's code."""


def written(name: str) -> Any:
    """Run the tutorial's snippet that defines a class; the class."""
    (snippet,) = [snippet for snippet in TUTORIAL if f"class {name}(" in snippet]
    names: dict[str, Any] = {}
    exec(compile(snippet, "docs/plugins.md", "exec"), names)
    return names[name]


def test_every_other_snippet_of_the_tutorial_is_the_examples_own_code() -> None:
    snippets = [snippet for snippet in TUTORIAL if not any(f"class {name}(" in snippet for name in WRITTEN)]
    files = [path.read_text() for path in (ROOT / "plugins/example").rglob("*") if path.suffix in (".py", ".toml")]
    assert len(snippets) == 4
    for snippet in snippets:
        assert any(snippet.strip() in text for text in files), snippet


def test_the_reducer_of_the_tutorial_keeps_the_contract() -> None:
    check_reducer(written("Pairs")(dim=4, depth=2))


def test_the_encoder_of_the_tutorial_hosts_a_reducer() -> None:
    check_encoder(written("MergingEncoder")(), in_blocks=True)


def test_steps_of_the_tutorial_keep_the_contract() -> None:
    backbone = type("Small", (written("InPlace"), SumBackbone), {})()
    embeds = backbone.embed(torch.tensor([[65, 66, 67]]))
    assert backbone.reserve(backbone(embeds)[1], 3) is not None
    check_backbone(backbone)


def test_the_restored_part_of_the_tutorial_needs_no_file(tmp_path: Path) -> None:
    kind = written("Bottleneck")
    options = {"in_dim": 4, "out_dim": 6, "pretrained": str(tmp_path / "sizes.json")}
    Path(options["pretrained"]).write_text('{"width": 3}')
    part = kind(**options)
    check_projector(part)
    Path(options["pretrained"]).unlink()
    restored = kind(**options, resolved=part.resolved())
    restored.load_state_dict(part.state_dict())
    assert torch.equal(restored(torch.ones(2, 4)), part(torch.ones(2, 4)))


def test_the_renamed_option_of_the_tutorial_is_refused_with_its_new_name(tmp_path: Path) -> None:
    (tmp_path / "options.yaml").write_text("factor: 3\n")
    with pytest.raises(ConfigError, match="factor: renamed to 'window'"):
        validated(written("ShrinkConfig"), "model.reducer", load_yaml(tmp_path / "options.yaml"))


def test_commands_about_recipes_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/recipes.md").read_text(), re.DOTALL)
    commands = [shlex.split(line, comments=True)[1:] for block in blocks for line in block.splitlines()]
    assert len(commands) == 7
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert main(command) == 0, command
    assert Path("recipe.schema.json").is_file()
    assert Path("mine/quickstart.yaml").is_file()


SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/backbones.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_snippets_about_backbones_run(snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "docs/backbones.md", "exec"), {})
    assert len(SNIPPETS) == 2


def test_commands_about_backbones_are_the_command_lines_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The conversions of the page, with small files in the place of those on the hub."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/backbones.md").read_text(), re.DOTALL)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    assert len(commands) == 2
    monkeypatch.chdir(tmp_path)
    for _, _, component, source, target, *rest in commands:
        made = random_model(component[-1], width=64, depth=2, head_size=32)
        torch.save(made.model.state_dict(), "source.pth")
        assert main(["convert", component, "source.pth", target, *rest]) == 0, source
        assert Path(target).is_file()


PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "recipes/auroralong/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


def anchors(text: str) -> set[str]:
    """What GitHub calls a page's headings in links."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_named_files_exist(page: Path) -> None:
    text = page.read_text()
    for target, anchor in LINK.findall(text):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked.read_text()), f"{target}#{anchor}"
    for named in re.findall(r"`((?:composer|plugins|recipes|tests|docs)/[\w./-]+?\.(?:py|yaml|md))`", text):
        assert (ROOT / named).exists(), named


def test_files_of_the_page_on_the_architecture_are_in_the_folder_before_them() -> None:
    for row in re.findall(r"^\| .*", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE):
        folder = ROOT / "plugins/composer_plugins/rwkv"  # of the table without folders
        for named in re.findall(r"`([\w/]+\.py)`", row):
            path = ROOT / named if "/" in named else folder / named
            assert path.is_file(), f"{named} in {row}"
            folder = path.parent


def test_functions_of_the_page_on_the_architecture_exist() -> None:
    section = (ROOT / "docs/architecture.md").read_text().partition("## From Python")[2].partition("## ")[0]
    names = re.findall(r"`(composer\.[\w.]+)`", section)
    assert len(names) >= 10
    assert all(callable(resolve_name(name)) for name in names)


def test_the_page_about_data_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its recipe and its commands in their order, on a small data set and for one step."""
    text = (ROOT / "docs/data.md").read_text()
    (recipe,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (block,) = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "recipes", "recipes")
    Path("shapes.yaml").write_text(recipe)
    short = {
        "synthesize": ["--train=8", "--stills=8", "--heldout=1"],
        "fit": [
            *("--trainer.max_steps=1", "--data.batch_size=4", "--data.num_workers=0", "--trainer.devices=1"),
            *("--trainer.strategy=auto", "--trainer.enable_progress_bar=false"),
        ],
    }
    commands = [shlex.split(line)[1:] for line in block.splitlines()]
    assert [words[1] for words in commands if words[0] == "data"] == ["synthesize", "check", "stats", "pack", "fetch"]
    for words in commands:
        more = short.get(words[1]) or short.get(words[0]) or []
        assert main([*words, *more]) == 0, " ".join(words)
    assert Path("problems.jsonl").read_text() == ""
    for made in re.findall(r"^(packed/\S+)", text, re.MULTILINE):
        assert Path(made).is_file(), made
    assert "MMInstruction/M3IT (main) -> data/auroralong/m3it: m3it-textcap" in capsys.readouterr().out
