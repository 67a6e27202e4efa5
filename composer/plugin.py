"""API for plugin authors: the hook, `Component`, and the base class of a component's options. Does not import torch.

A plugin is a *light* module (importing it does not import torch, transformers, open_clip, timm, fla or lightning) that
an entry point of the group `composer.plugins` names:

    from composer.plugin import Component, ComponentConfig, hookimpl

    class ShrinkConfig(ComponentConfig):
        factor: int = Field(2, ge=1, description="Side of the window of tokens that are averaged.")

    @hookimpl
    def composer_components():
        yield Component("reducer", "shrink", "Average windows of tokens.", ShrinkConfig, "my_plugin.shrink:Shrink")

The target is imported only when a model is built. It is called with the options as keyword arguments, and with values
that composer derives from the neighboring parts:

| kind | composer adds | the target returns |
|---|---|---|
| encoder | nothing | `composer.parts.Encoder` |
| reducer | `dim` (channels of its input tokens), `depth` (blocks of the encoder) | `Reducer` or `BlockReducer` |
| projector | `in_dim`, `out_dim` | `composer.parts.Projector` |
| backbone | `tokenizer` (a `composer.tokenizer.Tokenizer`, or None for its own) | `composer.parts.Backbone` |
| reader | nothing | `composer.reader.Reader` |
| benchmark | nothing | `composer.benchmark.Benchmark` |

A part whose class overrides `composer.parts.Part.resolved` is also called with `resolved` if it is restored from a
checkpoint.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, get_args

import pluggy
from pydantic import BaseModel, ConfigDict, Field

Slot = Literal["encoder", "reducer", "projector", "backbone"]
SLOTS: tuple[Slot, ...] = get_args(Slot)
"""The parts of a model, which are the keys of `model:`."""

Kind = Literal["encoder", "reducer", "projector", "backbone", "reader", "benchmark"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""All kinds of components: the parts of a model, readers of data files, and benchmarks."""

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
"""Names that options of a kind cannot have: arguments that composer adds, and flags of `composer evaluate`."""

HEAVY = ("torch", "torchvision", "transformers", "open_clip", "timm", "fla", "lightning")
"""Packages that a plugin's module must not import, because commands that do not build a model would wait for them."""

PROJECT = "composer"
ENTRY_POINT_GROUP = "composer.plugins"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class ComponentConfig(BaseModel):
    """Base class of a component's options: immutable; unknown options are errors; every field has a description.

    renamed: renamed options, {old: new}. The error for an old name tells the new one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    renamed: ClassVar[Mapping[str, str]] = {}


class SlotConfig(BaseModel):
    """A selected component. The concrete class, created at run time, adds the component's own options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="An installed component: its name, or distribution/name if two provide it.")

    def without_pretrained(self) -> Self:
        """Copy the selection with random weights: the option `pretrained`, if there is one, is set to null."""
        if getattr(self, "pretrained", None) is None:
            return self
        return self.model_copy(update={"pretrained": None})


@dataclass(frozen=True)
class Converter:
    """Function that writes a component's weights in a different layout, for `composer convert`.

    Attributes:
        target: "package.module:callable", called as (source, target, layout, revision): `source` as in the component's
            option `pretrained`, `target` a pathlib.Path, `layout` one of `layouts`, `revision` a string or None.
        layouts: Names of the layouts that it writes.
    """

    target: str
    layouts: tuple[str, ...]


@dataclass(frozen=True)
class Component:
    """A component that a plugin provides.

    Attributes:
        kind: Its slot of `model:`, or `reader`, `benchmark`.
        name: Its name in a recipe: lower case, digits and hyphens.
        summary: One line for `composer plugins list`.
        config: Class of its options.
        target: "package.module:callable", imported only when the component is built.
        requires: pip requirements in addition to those of the plugin's distribution, such as "timm>=1.0".
        in_blocks: For an encoder, whether its blocks can run a reducer; for a reducer, whether it runs in blocks.
        converter: Writes its weights in other layouts; None if there is only one layout.
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
        """Yield the components that the plugin provides."""
