"""Finds the installed plugins and checks what they offer; a broken one hides no other. No torch here.

Discovery is our own loop and not pluggy's, which skips a second distribution with the same entry-point name in
silence, lets one broken plugin hide all later ones, and never calls a misspelt hook.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, version

import pluggy
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from composer.errors import PluginError
from composer.plugin import HEAVY, KINDS, PROJECT, RESERVED, Component, ComponentConfig, HookSpec, SlotConfig

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_TARGET = re.compile(r"[\w.]+:\w+")

_LIGHT = "import it only in the modules of targets"


@dataclass(frozen=True)
class Plugin:
    """One entry point of the group `composer.plugins`.

    problem: why it is broken, None if it is not. warning: what it does that it should not do, None if nothing.
    """

    name: str
    distribution: str
    version: str
    problem: str | None = None
    warning: str | None = None

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Provider:
    """A component and the plugin that offers it."""

    component: Component
    plugin: Plugin

    def __str__(self) -> str:
        return f"{self.component.kind} {self.component.name!r} ({self.plugin})"

    @property
    def qualified_name(self) -> str:
        """`distribution/name`, which no two providers share."""
        return f"{self.plugin.distribution}/{self.component.name}"

    def answers_to(self, name: str) -> bool:
        """Whether `name` is its name or its qualified name; distributions are compared as pip compares them."""
        distribution, slash, own = name.rpartition("/")
        same = not slash or canonicalize_name(distribution) == canonicalize_name(self.plugin.distribution)
        return same and own == self.component.name

    def missing(self) -> list[str]:
        """Its requirements that this Python does not meet."""
        return [text for text in self.component.requires if not _met(Requirement(text))]

    @property
    def status(self) -> str:
        """`ok`, `slow` if its plugin has a warning, or the one line that fixes it."""
        missing = self.missing()
        if missing:
            return f"pip install {' '.join(map(repr, missing))}"
        return "slow" if self.plugin.warning else "ok"


def discover(found: Iterable[EntryPoint]) -> tuple[list[Plugin], list[Provider]]:
    """The plugins of these entry points, and the components of those that are not broken."""
    plugins: list[Plugin] = []
    providers: list[Provider] = []
    for point in sorted(found, key=lambda point: (point.dist.name if point.dist else "", point.name)):
        distribution, number = (point.dist.name, point.dist.version) if point.dist else ("unknown", "0")
        loaded = sys.modules.keys() & set(HEAVY)
        try:
            with stdout_to_stderr():
                components = _components(point.load())
        except (Exception, SystemExit) as error:
            problem = str(error) if isinstance(error, PluginError) else f"{type(error).__name__}: {error}"
            plugins.append(Plugin(point.name, distribution, number, problem))
            continue
        heavy = [name for name in HEAVY if name in sys.modules and name not in loaded]
        warning = f"importing it imports {', '.join(heavy)}, which slows every command: {_LIGHT}" if heavy else None
        plugin = Plugin(point.name, distribution, number, warning=warning)
        plugins.append(plugin)
        providers.extend(Provider(component, plugin) for component in components)
    return plugins, providers


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Sends what a plugin prints to stderr, also through the file descriptor: stdout is for a command's result."""
    try:
        kept = os.dup(1)
    except OSError:  # closed
        kept = -1
    try:
        if kept >= 0:
            sys.stdout.flush()
            os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if kept >= 0:
            sys.stdout.flush()
            os.dup2(kept, 1)
            os.close(kept)


def _components(module: object) -> list[Component]:
    """The components of one plugin, checked. Raises whatever is wrong with it."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(HookSpec)
    manager.register(module)
    manager.check_pending()
    answers = manager.hook.composer_components()
    if not answers:
        raise PluginError("it has no function composer_components, marked @hookimpl, that returns components.")
    components = list(answers[0])
    for component in components:
        _check(component)
    keys = [(component.kind, component.name) for component in components]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise PluginError(f"it offers {', '.join(f'{kind} {name!r}' for kind, name in sorted(twice))} twice.")
    return components


def _check(component: object) -> None:
    if not isinstance(component, Component):
        raise PluginError(f"composer_components gave {component!r}, which is not a composer.plugin.Component.")
    who = f"component {component.name!r}"
    if component.kind not in KINDS:
        raise PluginError(f"{who} is of kind {component.kind!r}; kinds are {', '.join(KINDS)}.")
    if not isinstance(component.name, str) or not _NAME.fullmatch(component.name):
        raise PluginError(f"{who}: a name is lower-case letters, digits and hyphens.")
    if not (isinstance(component.config, type) and issubclass(component.config, ComponentConfig)):
        raise PluginError(f"{who}: its config is not a subclass of composer.plugin.ComponentConfig.")
    if "name" in component.config.model_fields:
        raise PluginError(f"{who}: no option can be called 'name', which is the component's own.")
    _check_options(component)
    if not _TARGET.fullmatch(component.target):
        raise PluginError(f"{who}: its target {component.target!r} is not 'package.module:callable'.")
    for text in component.requires:
        Requirement(text)


def _check_options(component: Component) -> None:
    """Raise PluginError if an option has a name that means something else to composer."""
    reserved = RESERVED[component.kind] | {name for name in vars(SlotConfig) if not name.startswith("_")}
    if clash := sorted(reserved & component.config.model_fields.keys()):
        raise PluginError(
            f"component {component.name!r}: no option of a {component.kind} can be called "
            f"{' or '.join(map(repr, clash))}, which composer itself sets: rename it"
        )


def _met(requirement: Requirement) -> bool:
    if requirement.marker and not requirement.marker.evaluate():
        return True
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False
