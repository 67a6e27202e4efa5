"""From layers to a `ModelConfig`: checkpoint (lowest), recipes in order, environment, flags. No torch here."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, create_model

from composer.errors import ConfigError, PluginError
from composer.plugin import SLOTS, Kind, Slot, SlotConfig
from composer.recipe.explain import nearest, validated
from composer.recipe.model import ModelConfig, PromptConfig
from composer.recipe.selection import Choice, Statement, combine, read_slot
from composer.recipe.yamlfile import Located, Origin, located, merged
from composer.registry import Registry, load_registry

SECTIONS = ("model", "training", "data", "trainer", "seed_everything", "ckpt_path", "evaluation")
"""A recipe's top level, beside `include`. `evaluation:` is for `run` and `sweep`; other commands pass over it."""

Layer = Sequence[Located]
"""What one layer says of `model:`: mappings, the last one strongest."""


@dataclass(frozen=True)
class Resolved:
    """model: complete and valid. sections: the rest of the recipes, merged. note: what was dropped, or None."""

    model: ModelConfig
    sections: Located
    note: str | None


def resolve(
    files: Sequence[Located],
    *,
    flags: Layer = (),
    environment: Layer = (),
    checkpoint: Mapping[str, Any] | None = None,
) -> Resolved:
    """Merge and validate `model:`. files: see `composer.recipe.yamlfile.load_recipes`; flags, environment: see
    `composer.recipe.overrides`; checkpoint: a dump of a `ModelConfig`.

    Raises ConfigError with every problem found, each with its key and origin.
    """
    problems = [problem for file in files for problem in _wrong_sections(file)]
    layers: list[Layer] = [[located(checkpoint, Origin("checkpoint"))]] if checkpoint else []
    layers += [[file.value["model"]] for file in files if "model" in file.value]
    model, note = _model([*layers, environment, flags], problems)
    return Resolved(model, other_sections(files), note)


def other_sections(files: Sequence[Located]) -> Located:
    """All but `model:` of recipes, merged, the last one strongest."""
    sections = Located({}, Origin("the recipe"))
    for file in files:
        sections = merged(sections, Located({k: v for k, v in file.value.items() if k != "model"}, file.origin))
    return sections


def model_config(mapping: Mapping[str, Any]) -> ModelConfig:
    """A complete `model:` mapping, such as a dump of a `ModelConfig`, validated. Raises ConfigError."""
    model, _ = _model([[located(dict(mapping), Origin("configuration"))]], [])
    return model


def recorded(model: ModelConfig) -> dict[str, Any]:
    """The model as files keep it: a dump with each component by its qualified name (see `composer.registry`)."""
    dump = model.model_dump(mode="json")
    for kind in SLOTS:
        for slot in dump[kind] if kind == "reducer" else [dump[kind]]:
            slot["name"] = load_registry().qualified_name(kind, slot["name"])
    return dump


@cache
def slot_config(kind: Kind, name: str) -> type[SlotConfig]:
    """The concrete class of a slot: the component's options, and its name first.

    It takes every name of the component, and keeps the canonical one.
    """
    registry = load_registry()
    provider = registry.find(kind, name)
    canonical, *others = registry.aliases(provider)
    if name != canonical:
        return slot_config(kind, canonical)
    options = provider.component.config
    names = Annotated[Literal[canonical, *others], AfterValidator(lambda _: canonical)]  # type: ignore[valid-type]
    return create_model(
        f"{options.__name__}Slot",
        __base__=(options, SlotConfig),  # type: ignore[arg-type]  # both are bases, and the result is a SlotConfig
        __doc__=options.__doc__,
        name=(names, Field(canonical, description=SlotConfig.model_fields["name"].description)),
    )


def _model(layers: Sequence[Layer], problems: list[str]) -> tuple[ModelConfig, str | None]:
    """The model that the layers select, and what was dropped. Raises ConfigError with `problems` and its own."""
    layers = [[part for part in layer if _is_model(part, problems)] for layer in layers]
    dropped: list[str] = []
    chosen: dict[Slot, list[Choice]] = {}
    slots: dict[Slot, list[SlotConfig]] = {kind: [] for kind in SLOTS}
    for kind in SLOTS:
        with _gathered(problems):
            chosen[kind] = _select(kind, layers, problems, dropped)
        for place, choice in enumerate(chosen.get(kind, ())):
            with _gathered(problems):
                slots[kind].append(_slot(kind, f".{place}" if len(chosen[kind]) > 1 else "", choice))
    prompt = PromptConfig()
    with _gathered(problems):
        prompt = _prompt(layers)
    if not problems:
        problems = _misfits(load_registry(), chosen)
    if problems:
        raise ConfigError(problems)
    (encoder,), reducers, (projector,), (backbone,) = (slots[kind] for kind in SLOTS)
    model = ModelConfig(encoder=encoder, reducer=tuple(reducers), projector=projector, backbone=backbone, prompt=prompt)
    return model, "options dropped with their component: " + "; ".join(dropped) + "." if dropped else None


@contextmanager
def _gathered(problems: list[str]) -> Iterator[None]:
    """Add the problems of a ConfigError to the others and go on, so that all of them are said at once."""
    try:
        yield
    except ConfigError as error:
        problems += error.problems


def _is_model(part: Located, problems: list[str]) -> bool:
    if not isinstance(part.value, dict):
        problems.append(
            f"{part.origin}: model: got {part.plain()!r}, expected a mapping of {', '.join(SLOTS)}, prompt."
        )
        return False
    known = ModelConfig.model_fields
    problems += [
        f"{value.origin}: model.{key}: unknown slot{nearest(key, known)} Slots: {', '.join(known)}."
        for key, value in part.value.items()
        if key not in known
    ]
    return True


def _select(kind: Slot, layers: Sequence[Layer], problems: list[str], dropped: list[str]) -> list[Choice]:
    """The components that fill a slot, with their options."""
    statements: list[Statement] = []
    replaced: list[Choice] = []
    for layer in layers:
        read = [_canonical(kind, read_slot(kind, part.value[kind])) for part in layer if kind in part.value]
        statement, lost = combine(read)
        statements.append(statement)
        replaced += lost
    selected, lost = combine(statements)
    dropped += [
        f"{', '.join(choice.options)} of {kind} {choice.name!r} ({choice.origin})" for choice in (*replaced, *lost)
    ]
    if selected.chain is None and kind != "reducer":
        installed = ", ".join(load_registry().names(kind)) or "none"
        problems.append(f"model.{kind}: a value is missing; name one with --model.{kind}=NAME. Installed: {installed}.")
    for loose in selected.loose:
        key = ".".join(["model", kind, *([] if loose.index is None else [str(loose.index)]), loose.option])
        if selected.chain == []:
            dropped.append(f"{key} ({loose.value.origin})")
        elif kind == "reducer":
            problems.append(f"{loose.value.origin}: {key}: {_no_place(selected.chain, loose.option)}")
    return selected.chain or []


def _canonical(kind: Slot, statement: Statement) -> Statement:
    """The statement with each component by its canonical name, so that all its names are one to the swap rule."""
    for choice in statement.chain or []:
        choice.name = load_registry().canonical_name(kind, choice.name)
    return statement


def _no_place(chain: Sequence[Choice] | None, option: str) -> str:
    """Why an option without a name applies to no reducer."""
    if not chain:
        return "no reducer is selected; name one with --model.reducer=NAME."
    places = ", ".join(f"{place} {choice.name!r}" for place, choice in enumerate(chain))
    return f"the chain has {len(chain)} reducers, {places}; say which one, as in --model.reducer.0.{option}=VALUE."


def _slot(kind: Slot, place: str, choice: Choice) -> SlotConfig:
    key = f"model.{kind}{place}"
    try:
        provider = load_registry().find(kind, choice.name)
    except PluginError as error:
        raise ConfigError(f"{choice.origin}: {key}: {error}") from error
    if missing := provider.missing():
        raise ConfigError(f"{choice.origin}: {key}: {provider} needs {', '.join(missing)}: {provider.status}")
    given = Located({"name": Located(choice.name, choice.origin)} | choice.options, choice.origin)
    return validated(slot_config(kind, choice.name), key, given)


def _prompt(layers: Sequence[Layer]) -> PromptConfig:
    given = Located({}, Origin("model.prompt"))
    for part in (part for layer in layers for part in layer if "prompt" in part.value):
        given = merged(given, part.value["prompt"])
    return validated(PromptConfig, "model.prompt", given)


def _misfits(registry: Registry, chosen: Mapping[Slot, Sequence[Choice]]) -> list[str]:
    """Reducers that the encoder cannot host, as far as can be told before anything is built."""
    (encoder,) = chosen["encoder"]
    hosts = registry.find("encoder", encoder.name).component.in_blocks
    problems = []
    for place, choice in enumerate(chosen["reducer"]):
        if not registry.find("reducer", choice.name).component.in_blocks:
            continue
        who = f"{choice.origin}: model.reducer: reducer {choice.name!r} works inside the encoder's blocks"
        if not hosts:
            others = [p.component.name for p in registry.of("reducer") if not p.component.in_blocks]
            use = f"use {' or '.join(others)}" if others else "leave it out"
            problems.append(f"{who}, which encoder {encoder.name!r} does not offer; {use}.")
        elif place > 0:
            problems.append(f"{who}, so it must come first in the chain, and there can be only one.")
    return problems


def _wrong_sections(file: Located) -> Iterator[str]:
    for key, value in file.value.items():
        if key not in SECTIONS:
            known = (*SECTIONS, "include")
            yield f"{value.origin}: {key}: unknown section{nearest(key, known)} Sections: {', '.join(known)}."
        elif key in ("training", "data", "trainer") and not isinstance(value.value, dict):
            yield f"{value.origin}: {key}: got {value.plain()!r}, expected a mapping."
        elif key == "evaluation" and not isinstance(value.value, list):
            yield f"{value.origin}: {key}: got {value.plain()!r}, expected a list such as [{{benchmark: NAME}}]."
