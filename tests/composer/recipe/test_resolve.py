"""Layers, the swap rule, includes and errors, on stand-in parts. Expected models are written out by hand."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import ConfigError
from composer.recipe.explain import differences
from composer.recipe.overrides import from_environment, from_flags
from composer.recipe.resolve import Recipe, merge_sections, model_config, recorded, resolve
from composer.recipe.yamlfile import Origin, load_recipes, merged, parse_yaml
from tests.composer.conftest import forget
from tests.composer.installing import PARTS, install

BASE: dict[str, Any] = {
    "encoder": "host",
    "reducer": {"name": "merge", "ratio": 0.1},
    "projector": "matrix",
    "backbone": {"name": "river", "width": 8, "pretrained": "RIVER"},
}


@pytest.fixture(autouse=True)
def _parts(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, content: Any) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    return path


def run(
    *models: Any, flags: Sequence[str] = (), environment: Mapping[str, str] | None = None, checkpoint: Any = None
) -> Recipe:
    files = load_recipes([write(f"{place}.yaml", {"model": model}) for place, model in enumerate(models)])
    return resolve(
        files,
        flags=from_flags(flags, "model")[0],
        environment=from_environment(environment or {}),
        checkpoint=checkpoint and {"model": checkpoint},
    )


def problems(*models: Any, **layers: Any) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        run(*models, **layers)
    return raised.value.problems


def one_problem(*models: Any, **layers: Any) -> str:
    (problem,) = problems(*models, **layers)
    return problem


def part(resolved: Recipe, slot: str) -> Any:
    return resolved.model.model_dump(mode="json")[slot]


def test_a_recipe() -> None:
    resolved = run(BASE)
    assert resolved.note is None
    assert resolved.model.model_dump(mode="json") == {
        "encoder": {"name": "host"},
        "reducer": [{"name": "merge", "ratio": 0.1, "order": "ascending"}],
        "projector": {"name": "matrix"},
        "backbone": {"name": "river", "width": 8, "pretrained": "RIVER", "extra": {}, "widths": []},
        "prompt": {"layout": "media-first", "tokenizer": None},
    }
    assert next(iter(part(resolved, "backbone"))) == "name"


def test_a_dump_reads_back_as_the_same_model() -> None:
    changes = {"reducer": ["merge", {"name": "pool", "window": 3}], "prompt": {"tokenizer": ["red", "blue"]}}
    model = run(BASE | changes).model
    assert model_config(model.model_dump(mode="json")) == model
    assert model_config(model.model_dump()) == model


def test_layers_from_the_lowest_to_the_strongest() -> None:
    checkpoint = run(BASE, flags=["--model.backbone.width=2"]).model.model_dump(mode="json")
    change = {"backbone": {"name": "river", "width": 4}}
    variable = {"COMPOSER_MODEL__BACKBONE__WIDTH": "6", "OTHER": "x"}
    flag = ["--model.backbone.width", "8"]
    assert part(run(checkpoint=checkpoint), "backbone")["width"] == 2
    assert part(run(change, checkpoint=checkpoint), "backbone")["width"] == 4
    assert part(run(change, checkpoint=checkpoint, environment=variable), "backbone")["width"] == 6
    assert part(run(change, checkpoint=checkpoint, environment=variable, flags=flag), "backbone")["width"] == 8
    assert part(run(checkpoint=checkpoint, flags=flag), "backbone")["pretrained"] == "RIVER"


@pytest.mark.parametrize("flag", ["--model.backbone=tower", "--model.backbone.name=tower"])
def test_a_swap_drops_what_was_written_next_to_the_name(flag: str) -> None:
    resolved = run(BASE, flags=[flag, "--model.backbone.width=4"])
    assert part(resolved, "backbone") == {"name": "tower", "width": 4, "pretrained": None, "extra": {}, "widths": []}
    expected = "options dropped with their component: width, pretrained of backbone 'river' (0.yaml:8)"
    assert resolved.note == expected


def test_options_without_a_name_follow_whatever_is_selected() -> None:
    loose = {"backbone": {"width": 6}}
    assert part(run(BASE, loose, flags=["--model.backbone=tower"]), "backbone")["width"] == 6
    assert part(run(loose, BASE), "backbone")["width"] == 8


@pytest.mark.parametrize("name", ["stand-in-parts/merge", "Stand_In.Parts/merge"])
def test_a_qualified_name_is_the_same_component(name: str) -> None:
    expected = run(BASE).model
    for resolved in (
        run(BASE, flags=[f"--model.reducer={name}"]),
        run(BASE, environment={"COMPOSER_MODEL__REDUCER__NAME": name}),
        run(BASE | {"reducer": [{"name": name, "ratio": 0.1}]}, flags=["--model.reducer=merge"]),
        run(checkpoint=recorded(expected), flags=["--model.reducer.order=ascending"]),
    ):
        assert resolved.model == expected
        assert resolved.note is None


def test_a_record_of_a_model_outlives_a_second_provider_of_its_names(parts: Path) -> None:
    model = run(BASE).model
    record = recorded(model)
    assert record["reducer"][0] == {"name": "stand-in-parts/merge", "ratio": 0.1, "order": "ascending"}
    install(parts, "more-parts", PARTS)
    forget()
    later = model_config(record)
    assert later.reducer[0].name == "stand-in-parts/merge"
    assert recorded(later) == record
    assert list(differences(model.model_dump(mode="json"), record, "model")) == []
    record["reducer"][0]["name"] = "more-parts/merge"
    assert list(differences(recorded(later), record, "model")) == [
        "model.reducer.0.name is 'more-parts/merge' and not 'stand-in-parts/merge'"
    ]


def test_a_swap_and_back_counts_the_options_of_the_selected_one() -> None:
    swapped = {"backbone": {"name": "tower", "width": 2, "pretrained": "TOWER"}}
    resolved = run(BASE, swapped, flags=["--model.backbone=river"])
    assert part(resolved, "backbone")["pretrained"] == "RIVER"
    assert part(resolved, "backbone")["width"] == 8
    assert resolved.note is not None
    assert "'tower'" in resolved.note
    assert "'river'" not in resolved.note


def test_a_variables_name_and_options_belong_together() -> None:
    variables = {
        "COMPOSER_MODEL__BACKBONE__NAME": "river",
        "COMPOSER_MODEL__BACKBONE__PRETRAINED": "OTHER",
        "COMPOSER_MODEL__BACKBONE__WIDTH": "2",
    }
    flags = ["--model.backbone=tower", "--model.backbone.width=4"]
    assert part(run(BASE, environment=variables), "backbone")["pretrained"] == "OTHER"
    assert part(run(BASE, environment=variables, flags=flags), "backbone")["pretrained"] is None


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.fixed_dictionaries({}, optional={"name": st.sampled_from(["river", "tower"]), "width": st.integers(1, 9)}),
        max_size=5,
    )
)
def test_the_swap_rule_against_its_own_words(layers: list[dict[str, Any]]) -> None:
    """For one option: the last layer that gives it and names the selected component, or names none."""
    stack = [
        {"name": "river", "width": 100},
        *({k: 2 * v if k == "width" else v for k, v in x.items()} for x in layers),
    ]
    selected = [layer["name"] for layer in stack if "name" in layer][-1]
    stack.append({"name": selected, "pretrained": "x"})
    counting = [x["width"] for x in stack if "width" in x and x.get("name", selected) == selected]
    if not counting:
        assert "model.backbone.width: a value is missing" in one_problem(BASE, *({"backbone": x} for x in stack))
        return
    base = {key: value for key, value in BASE.items() if key != "backbone"}
    resolved = run(base, *({"backbone": layer} for layer in stack))
    assert part(resolved, "backbone")["width"] == counting[-1]


def test_mappings_are_merged_and_lists_replaced() -> None:
    lower = {"backbone": {"name": "river", "width": 2, "extra": {"a": 1, "b": 2}, "widths": [1, 2]}}
    upper = {"backbone": {"extra": {"b": 3}, "widths": [3]}}
    resolved = run(BASE, lower, upper, flags=["--model.backbone.extra.c=4"])
    assert part(resolved, "backbone")["extra"] == {"a": 1, "b": 3, "c": 4}
    assert part(resolved, "backbone")["widths"] == [3]


class TestReducer:
    def test_none(self) -> None:
        bare = {key: value for key, value in BASE.items() if key != "reducer"}
        for models, flags in [((bare,), []), ((BASE, {"reducer": None}), []), ((BASE,), ["--model.reducer=null"])]:
            assert run(*models, flags=flags).model.reducer == ()

    def test_chain_and_its_places(self) -> None:
        chain = {"reducer": [{"name": "merge", "ratio": 0.2}, "pool"]}
        flags = ["--model.reducer.0.ratio=0.3", "--model.reducer.1.window=4"]
        expected = [{"name": "merge", "ratio": 0.3, "order": "ascending"}, {"name": "pool", "window": 4}]
        assert part(run(BASE, chain, flags=flags), "reducer") == expected

    def test_one_of_a_list_needs_no_place(self) -> None:
        chain = {"reducer": [{"name": "merge", "ratio": 0.2}]}
        assert run(BASE, chain, flags=["--model.reducer.ratio=0.25"]).model.reducer[0].ratio == 0.25

    def test_two_need_a_place(self) -> None:
        problem = one_problem(BASE | {"reducer": ["merge", "pool"]}, flags=["--model.reducer.ratio=0.25"])
        assert "--model.reducer.ratio: the chain has 2 reducers, 0 'merge', 1 'pool'" in problem
        assert "--model.reducer.0.ratio=VALUE" in problem

    def test_a_list_as_flag(self) -> None:
        names = [r.name for r in run(BASE, flags=["--model.reducer=[merge, {name: pool, window: 3}]"]).model.reducer]
        assert names == ["merge", "pool"]

    def test_the_second_of_a_name_is_not_the_first(self) -> None:
        two = {"reducer": [{"name": "pool", "window": 2}, {"name": "pool", "window": 3}]}
        resolved = run(BASE, two, {"reducer": ["pool", "pool"]})
        assert [r["window"] for r in part(resolved, "reducer")] == [2, 3]
        resolved = run(BASE, two, {"reducer": ["pool"]})
        assert [r["window"] for r in part(resolved, "reducer")] == [2]
        assert resolved.note is not None
        assert "window of reducer 'pool' (1.yaml:5)" in resolved.note

    def test_an_option_without_a_reducer(self) -> None:
        bare = {key: value for key, value in BASE.items() if key != "reducer"}
        assert "no reducer is selected; name one" in one_problem(bare, flags=["--model.reducer.ratio=0.5"])
        resolved = run(BASE, {"reducer": {"ratio": 0.5}}, flags=["--model.reducer=null"])
        assert "model.reducer.ratio (1.yaml:3)" in str(resolved.note)

    def test_the_encoder_must_host_it(self) -> None:
        problem = one_problem(BASE, flags=["--model.encoder=plain"])
        assert problem.startswith("0.yaml:4: model.reducer: reducer 'merge' works inside the encoder's blocks, which ")
        assert "encoder 'plain' does not support; use pool" in problem
        assert "merge" not in problem.partition("use ")[2]

    @pytest.mark.parametrize("chain", [["pool", "merge"], ["merge", "merge"]])
    def test_the_one_in_the_blocks_comes_first(self, chain: list[str]) -> None:
        assert "it must come first in the chain" in one_problem(BASE | {"reducer": chain})


class TestFiles:
    def test_include_is_lower_and_relative(self) -> None:
        write(
            "base/all.yaml",
            {"model": BASE, "training": {"betas": [0, 1], "learning_rates": {"encoder": 1, "backbone": 2}}},
        )
        write("base/more.yaml", {"trainer": {"max_steps": 3}})
        top = {"include": ["base/all.yaml", "base/more.yaml"], "model": {"backbone": "tower"}}
        path = write("top.yaml", top | {"training": {"learning_rates": {"backbone": 3}}})
        resolved = resolve(load_recipes([path]), flags=from_flags(["--model.backbone.width=2"], "model")[0])
        assert resolved.model.backbone.name == "tower"
        assert resolved.training.learning_rates == {"encoder": 1, "backbone": 3}
        assert (resolved.training.betas, resolved.trainer.max_steps) == ((0, 1), 3)
        assert str(resolved.stated.at(["training", "learning_rates", "encoder"]).origin) == "base/all.yaml:16"

    def test_an_include_that_comes_back(self) -> None:
        write("a.yaml", "include: sub/b.yaml\n")
        write("sub/b.yaml", "\ninclude: ../a.yaml\n")
        with pytest.raises(
            ConfigError, match=r"^sub/b\.yaml:2: include: a file cannot include itself: a.yaml includes b"
        ):
            load_recipes([Path("a.yaml")])

    def test_a_file_named_twice_is_no_circle(self) -> None:
        write("base.yaml", {"model": BASE})
        write("a.yaml", {"include": "base.yaml"})
        write("b.yaml", {"include": ["a.yaml", "base.yaml"]})
        assert resolve(load_recipes([Path("b.yaml")])).model.backbone.name == "river"

    def test_a_slot_in_a_file_of_its_own(self) -> None:
        write("parts/backbones/t.yaml", {"name": "tower", "width": 6})
        write("parts/all.yaml", {"model": BASE | {"backbone": "backbones/t.yaml"}})
        resolved = resolve(load_recipes([Path("parts/all.yaml")]))
        assert part(resolved, "backbone")["width"] == 6
        resolved = run(BASE, flags=["--model.backbone=parts/backbones/t.yaml", "--model.backbone.pretrained=T"])
        assert part(resolved, "backbone") == {"name": "tower", "width": 6, "pretrained": "T", "extra": {}, "widths": []}

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("model: [1\n", r"^a\.yaml:2: not YAML: "),
            ("model: !!python/name:os.system x\n", r"^a\.yaml:1: not YAML: could not determine a constructor"),
            ("- 1\n", r"^a\.yaml:1: a recipe is a mapping with sections"),
            ("training:\n  a: 1\n  a: 2\n", r"^a\.yaml:[23]: 'a' is given twice"),
            ("include: 3\n", r"^a\.yaml:1: include: got 3, expected a path or a list of paths"),
            ("\ninclude: none.yaml\n", r"^a\.yaml:2: cannot read 'none\.yaml': No such file"),
            ("training: &x {a: *x}\n", r"^a\.yaml:1: got an anchor that contains itself"),
            ("? [a]\n: 1\n", r"^a\.yaml:1: a key must be plain text"),
        ],
    )
    def test_wrong_yaml(self, text: str, said: str) -> None:
        write("a.yaml", text)
        with pytest.raises(ConfigError, match=said):
            load_recipes([Path("a.yaml")])

    def test_a_missing_recipe_and_one_in_another_encoding(self) -> None:
        with pytest.raises(ConfigError, match=r"^cannot read 'no\.yaml': No such file or directory"):
            load_recipes([Path("no.yaml")])
        Path("latin.yaml").write_bytes("training: {name: café}".encode("latin-1"))
        with pytest.raises(ConfigError, match=r"^cannot read 'latin\.yaml': .*utf-8"):
            load_recipes([Path("latin.yaml")])

    def test_yaml_less_its_traps(self) -> None:
        text = (
            "training: {a: 1e-3, b: on, c: no, d: 2026-01-01, e: true, f: 1.5, g: -2E5, h: 12, i: .5, j: null, k: .inf}"
        )
        values = merge_sections(load_recipes([write("a.yaml", {"model": BASE}), write("b.yaml", text)])).plain()
        expected = [1e-3, "on", "no", "2026-01-01", True, 1.5, -2e5, 12, 0.5, None, float("inf")]
        assert list(values["training"].values()) == expected

    def test_merge_keys(self) -> None:
        text = "training:\n  one: &one {a: 1, b: 2}\n  two: {<<: *one, b: 3}\n"
        values = merge_sections(load_recipes([write("a.yaml", {"model": BASE}), write("b.yaml", text)])).plain()
        assert values["training"]["two"] == {"a": 1, "b": 3}


class TestErrors:
    def test_several_at_once_each_with_its_place(self) -> None:
        wrong = {
            "encodr": "host",
            "reducer": {"name": "merge", "ratoi": 0.1, "order": "up"},
            "projector": "matrx",
            "backbone": {"name": "river", "width": "wide"},
        }
        write("a.yaml", {"model": wrong, "trainr": {}, "data": 3})
        with pytest.raises(ConfigError) as raised:
            resolve(load_recipes([Path("a.yaml")]))
        expected = [
            "a.yaml:11: trainr: unknown section; did you mean 'trainer'?",
            "a.yaml:12: data: got 3, expected a mapping",
            "a.yaml:2: model.encodr: unknown slot; did you mean 'encoder'?",
            "model.encoder: a value is missing; name one with --model.encoder=NAME. Installed: ",
            "a.yaml:5: model.reducer.ratoi: unknown option; did you mean 'ratio'? Options: ratio, order",
            "a.yaml:6: model.reducer.order: got 'up', expected 'ascending' or 'descending'",
            "a.yaml:7: model.projector: unknown projector 'matrx': did you mean 'matrix'? Installed: ",
            "a.yaml:10: model.backbone.width: got 'wide', expected a valid integer",
        ]
        assert len(raised.value.problems) == len(expected)
        for text in expected:
            assert any(problem.startswith(text) for problem in raised.value.problems), (text, raised.value.problems)

    @pytest.mark.parametrize(
        ("layers", "said"),
        [
            (
                {"flags": ["--model.backbone.widht=2"]},
                "--model.backbone.widht: unknown option; did",
            ),
            (
                {"flags": ["--model.backbone.width=x"]},
                "--model.backbone.width: got 'x', expected",
            ),
            ({"flags": ["--model.backbone.width=3"]}, "model.backbone: width must be even and is 3"),
            (
                {"flags": ["--model.backbone=towr"]},
                "--model.backbone: unknown backbone 'towr': did you",
            ),
            (
                {"flags": ["--model.bakbone=tower"]},
                "--model.bakbone: unknown slot; did you mean 'backbone'?",
            ),
            (
                {"flags": ["--model.backbone=null"]},
                "--model.backbone: got no value, expected a component's",
            ),
            ({"flags": ["--model.backbone=3"]}, "model.backbone: got 3, expected a component's name, a mapping with"),
            ({"flags": ["--model.backbone.name=3"]}, "model.backbone.name: got 3, expected a component's name"),
            ({"flags": ["--model.backbone=[tower]"]}, "model.backbone: got ['tower'], expected a component's name"),
            (
                {"flags": ["--model.backbone=tower"]},
                "model.backbone.width: a value is missing; expected integer: Channels",
            ),
            ({"flags": ["--model.backbone=no.yaml"]}, "--model.backbone: cannot read 'no.yaml': No such file"),
            ({"flags": ["--model.reducer.0=pool"]}, "model.reducer.0: got 'pool', expected options of that place"),
            ({"flags": ["--model.reducer.2.ratio=1"]}, "the chain has 1 reducers"),
            ({"flags": ["--model.backbone=lonely"]}, "pip install 'absent-thing>=2' 'pluggy>=99'"),
            (
                {"flags": ["--model.prompt.layout=odd"]},
                "model.prompt.layout: got 'odd', expected 'media-first', 'sandwich'",
            ),
            (
                {"flags": ["--model.prompt.tokenizer=3"]},
                "model.prompt.tokenizer: got 3, expected 'bytes' or 'world' or",
            ),
            ({"flags": ["--model.backbone.extra.a=x"]}, "--model.backbone.extra.a: got 'x'"),
            (
                {"flags": ["--model.backbone.widths=[1, x]"]},
                "model.backbone.widths.1: got 'x', expected a valid integer",
            ),
            (
                {"environment": {"COMPOSER_MODEL__BACKBONE__WIDTH": "x"}},
                "$COMPOSER_MODEL__BACKBONE__WIDTH: model.backbone.",
            ),
            (
                {"environment": {"COMPOSER_MODEL__BACKBON": "x"}},
                "$COMPOSER_MODEL__BACKBON: model.backbon: unknown slot",
            ),
            (
                {"checkpoint": {"backbone": {"name": "river", "old": 1}}},
                "checkpoint: model.backbone.old: unknown option.",
            ),
        ],
    )
    def test_one(self, layers: dict[str, Any], said: str) -> None:
        assert said in one_problem(BASE, **layers)

    def test_model_is_no_mapping(self) -> None:
        assert "0.yaml:1: model: got 'river', expected a mapping of encoder, reducer, projector" in problems("river")[0]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--model=a.yaml"], "--model: got no key, expected --model.KEY=VALUE"),
            (["--model.=a"], "--model.: got no key"),
            (["--model.backbone"], "--model.backbone: a value is missing"),
            (["--model.backbone", "--trainer.x=1"], "--model.backbone: a value is missing"),
            (["--model.reducer=[a"], "--model.reducer: not YAML"),
        ],
    )
    def test_flags(self, arguments: list[str], said: str) -> None:
        with pytest.raises(ConfigError, match=said.replace(".", r"\.").replace("[", r"\[")):
            from_flags(arguments, "model")

    def test_other_flags_are_left_alone(self) -> None:
        arguments = ["--modelling=1", "--model.backbone", "tower", "--trainer.max_steps", "-1", "--model.x=a=b"]
        flags, rest = from_flags(arguments, "model")
        assert [flag.plain() for flag in flags] == [{"model": {"backbone": "tower"}}, {"model": {"x": "a=b"}}]
        assert rest == ["--modelling=1", "--trainer.max_steps", "-1"]


def test_another_component_of_a_section_replaces_the_options_of_the_one_below() -> None:
    lower = parse_yaml("reader: {name: llava, path: a.jsonl, media_root: m}", Origin("low"))
    other = merged(lower, parse_yaml("reader: {name: packed, path: b}", Origin("high")))
    assert other.plain() == {"reader": {"name": "packed", "path": "b"}}
    for same in ("reader: {name: llava, path: b.jsonl}", "reader: {path: b.jsonl}"):
        path = merged(lower, parse_yaml(same, Origin("high"))).plain()
        assert path == {"reader": {"name": "llava", "path": "b.jsonl", "media_root": "m"}}
