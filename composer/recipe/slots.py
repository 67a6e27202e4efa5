"""The `model:` section of a recipe: the components of the slots and their options. Does not import torch."""

from collections.abc import Iterator, Mapping, Sequence

from composer.errors import ConfigError
from composer.plugin import SLOTS, Slot, SlotConfig
from composer.recipe.components import component
from composer.recipe.explain import attempt, got, place, unknown, validated
from composer.recipe.model import ModelConfig, PromptConfig
from composer.recipe.selection import Choice, Statement, combine, read_slot
from composer.recipe.yamlfile import Located, Origin, merged
from composer.registry import Registry, load_registry


def resolve_model(layers: Sequence[Sequence[Located]]) -> tuple[ModelConfig, Located, str | None]:
    """Resolve the model from layers of `model:`.

    Returns:
        The model, its options with their origins, and a note on dropped options or None.

    Raises:
        ConfigError: With every problem.
    """
    problems: list[str] = []
    layers = [[part for part in layer if _is_model(part, problems)] for layer in layers]
    dropped: list[str] = []
    chosen: dict[Slot, list[Choice]] = {}
    slots: dict[Slot, list[SlotConfig]] = {kind: [] for kind in SLOTS}
    for kind in SLOTS:
        chosen[kind] = attempt(problems, _select, kind, layers, problems, dropped) or []
        for number, choice in enumerate(chosen[kind]):
            key = f"model.{kind}" + (f".{number}" if len(chosen[kind]) > 1 else "")
            if slot := attempt(problems, component, kind, key, _as_located(choice)):
                slots[kind].append(slot)
    written = Located({}, Origin("default"))
    for part in (part for layer in layers for part in layer if "prompt" in part.value):
        written = merged(written, part.value["prompt"])
    prompt = attempt(problems, validated, PromptConfig, "model.prompt", written)
    problems = problems or _misfits(load_registry(), chosen)
    if prompt is None or problems:
        raise ConfigError(problems)
    (encoder,), reducers, (projector,), (backbone,) = (slots[kind] for kind in SLOTS)
    model = ModelConfig(encoder=encoder, reducer=tuple(reducers), projector=projector, backbone=backbone, prompt=prompt)
    note = "options dropped with their component: " + "; ".join(dropped) if dropped else None
    return model, _with_origins(chosen, written), note


def _with_origins(chosen: Mapping[Slot, Sequence[Choice]], prompt: Located) -> Located:
    """The layers' options of the selected components, in the form of a dump of `ModelConfig`."""
    slots = {
        kind: Located([_as_located(choice) for choice in choices], Origin("default"))
        if kind == "reducer"
        else _as_located(choices[0])
        for kind, choices in chosen.items()
    }
    return Located({**slots, "prompt": prompt}, Origin("default"))


def _as_located(choice: Choice) -> Located:
    return Located({"name": Located(choice.name, choice.origin)} | choice.options, choice.origin)


def _is_model(part: Located, problems: list[str]) -> bool:
    if not isinstance(part.value, dict):
        problems.append(got("model", part, f"a mapping of {', '.join(SLOTS)}, prompt"))
        return False
    known = ModelConfig.model_fields
    problems += [
        f"{place(value.origin, f'model.{key}')}: {unknown('slot', key, known)}"
        for key, value in part.value.items()
        if key not in known
    ]
    return True


def _select(kind: Slot, layers: Sequence[Sequence[Located]], problems: list[str], dropped: list[str]) -> list[Choice]:
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
        problems.append(f"model.{kind}: a value is missing; name one with --model.{kind}=NAME. Installed: {installed}")
    problems += _loose(kind, selected, dropped)
    return selected.chain or []


def _loose(kind: Slot, selected: Statement, dropped: list[str]) -> Iterator[str]:
    """Problems of options without a name that apply to no component."""
    for loose in selected.loose:
        key = ".".join(["model", kind, *([] if loose.index is None else [str(loose.index)]), loose.option])
        if selected.chain == []:
            dropped.append(f"{key} ({loose.value.origin})")
        elif kind == "reducer":
            yield f"{place(loose.value.origin, key)}: {_no_place(selected.chain, loose.option)}"


def _canonical(kind: Slot, statement: Statement) -> Statement:
    """The statement with canonical names, so that the swap rule treats all names of a component as one."""
    for choice in statement.chain or []:
        choice.name = load_registry().canonical_name(kind, choice.name)
    return statement


def _no_place(chain: Sequence[Choice] | None, option: str) -> str:
    """Why an option without a name applies to no reducer."""
    if not chain:
        return "no reducer is selected; name one with --model.reducer=NAME"
    reducers = ", ".join(f"{number} {choice.name!r}" for number, choice in enumerate(chain))
    return f"the chain has {len(chain)} reducers, {reducers}; name one, as in --model.reducer.0.{option}=VALUE"


def _misfits(registry: Registry, chosen: Mapping[Slot, Sequence[Choice]]) -> list[str]:
    """Problems of reducers that the encoder does not support, as far as they are known before anything is built."""
    (encoder,) = chosen["encoder"]
    hosts = registry.find("encoder", encoder.name).component.in_blocks
    problems = []
    for number, choice in enumerate(chosen["reducer"]):
        if not registry.find("reducer", choice.name).component.in_blocks:
            continue
        subject = f"{choice.origin}: model.reducer: reducer {choice.name!r} works inside the encoder's blocks"
        if not hosts:
            others = [p.component.name for p in registry.of("reducer") if not p.component.in_blocks]
            use = f"use {' or '.join(others)}" if others else "remove it"
            problems.append(f"{subject}, which encoder {encoder.name!r} does not support; {use}")
        elif number > 0:
            problems.append(f"{subject}, so it must come first in the chain, and there can be only one")
    return problems
