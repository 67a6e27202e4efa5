"""What a plugin author imports: the hook, `Component`, and the base of a component's options. No torch here.

A plugin is a *light* module (importing it imports no torch, transformers, open_clip, timm, fla or lightning), named
by an entry point of the group `composer.plugins`:

    from composer.plugin import Component, ComponentConfig, hookimpl

    class ShrinkConfig(ComponentConfig):
        factor: int = Field(2, ge=1, description="Side of the window of tokens that becomes one.")

    @hookimpl
    def composer_components():
        yield Component("reducer", "shrink", "Average windows of tokens.", ShrinkConfig, "my_plugin.shrink:Shrink")

The target is imported only when a model is built, then called with the options as keyword arguments and with what
composer knows from the neighbors:

| kind | composer adds | the target returns |
|---|---|---|
| encoder | nothing | `composer.parts.Encoder` |
| reducer | `dim` (channels of the tokens it gets), `depth` (blocks of the encoder) | `Reducer` or `BlockReducer` |
| projector | `in_dim`, `out_dim` | `composer.parts.Projector` |
| backbone | `tokenizer` (a `composer.tokenizer.Tokenizer`, or None: bring your own) | `composer.parts.Backbone` |
| reader | nothing | `composer.reader.Reader` |
| benchmark | nothing | `composer.benchmark.Benchmark` |

A part whose class overrides `composer.parts.Part.resolved` is also called with `resolved`, if it is restored from a
checkpoint.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, get_args

import pluggy
from pydantic import BaseModel, ConfigDict, Field

Slot = Literal["encoder", "reducer", "projector", "backbone"]
SLOTS: tuple[Slot, ...] = get_args(Slot)
"""The parts of a model: what fills `model:`."""

Kind = Literal["encoder", "reducer", "projector", "backbone", "reader", "benchmark"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The parts of a model, how data files are read, and what a model is measured on."""

RESERVED: dict[Kind, frozenset[str]] = {
    "encoder": frozenset({"resolved"}),
    "reducer": frozenset({"dim", "depth", "resolved"}),
    "projector": frozenset({"in_dim", "out_dim", "resolved"}),
    "backbone": frozenset({"tokenizer", "resolved"}),
    "reader": frozenset(),
    "benchmark": frozenset(
        {"benchmark", "output", "batch_size", "num_workers", "device", "limit", "condition", "model", "help"}
    ),
}
"""Names that no option of a kind can have: what composer adds, and for a benchmark the flags of `composer evaluate`."""

HEAVY = ("torch", "torchvision", "transformers", "open_clip", "timm", "fla", "lightning")
"""What a plugin's module must not import: commands that build no model would wait for it."""

PROJECT = "composer"
ENTRY_POINT_GROUP = "composer.plugins"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class ComponentConfig(BaseModel):
    """Base of a component's options: unknown options are refused, values never change, every field is described.

    renamed: options that had another name once, {old: new}. An old name is refused with the new one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    renamed: ClassVar[Mapping[str, str]] = {}


class SlotConfig(BaseModel):
    """A selected component. The concrete class, made at run time, adds the component's own options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="An installed component: its name, or distribution/name where two provide it.")

    def without_pretrained(self) -> Self:
        """The same component with random weights: if it has an option `pretrained`, that is null."""
        if getattr(self, "pretrained", None) is None:
            return self
        return self.model_copy(update={"pretrained": None})


@dataclass(frozen=True)
class Converter:
    """What `composer convert` calls to write a component's weights in another layout.

    target: "package.module:callable", called as (source, target, layout, revision): `source` as the component's option
    `pretrained`, `target` a pathlib.Path, `layout` one of `layouts`, `revision` a string or None.
    """

    target: str
    layouts: tuple[str, ...]


@dataclass(frozen=True)
class Component:
    """One part that a plugin offers.

    kind: which slot of `model:` it fills, or `reader`, `benchmark`.
    name: how a recipe names it: lower case, digits and hyphens.
    summary: one line for `composer plugins list`.
    config: its options.
    target: "package.module:callable", imported only when the part is built.
    requires: pip requirements beyond those of the plugin's own distribution, such as "timm>=1.0".
    in_blocks: an encoder that lets a reducer work inside its blocks; a reducer that works there.
    converter: how its weights are written in other layouts, None where they have but one.
    """

    kind: Kind
    name: str
    summary: str
    config: type[ComponentConfig]
    target: str
    requires: tuple[str, ...] = ()
    in_blocks: bool = False
    converter: Converter | None = None


class HookSpec:
    """The hooks that composer calls on every plugin."""

    @hookspec
    def composer_components(self) -> Iterable[Component]:  # type: ignore[empty-body]
        """The components that this plugin offers."""
