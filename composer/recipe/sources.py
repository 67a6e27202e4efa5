"""What `data:` says of its sources: which reader opens which file, and how often it is learned. No torch here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from composer.errors import ConfigError, PluginError
from composer.plugin import SlotConfig
from composer.recipe.explain import nearest, validated
from composer.recipe.resolve import slot_config
from composer.recipe.yamlfile import Located
from composer.registry import load_registry

STAGES = ("train", "validation", "test", "predict")
FILES = (".json", ".jsonl")
FILE_READER = "multimodal-composer/llava"
"""What reads a file that is given by its path alone."""

KEYS = ("source", "repeat")
RENAMED = {"max_bad_media": "max_bad_samples"}
"""Options of the data module under their old names."""


class SourceConfig(BaseModel):
    """One source of data: its reader, how often it is learned, and where it comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="What recipes and messages call it.")
    reader: SerializeAsAny[SlotConfig] = Field(description="An installed reader, with its options.")
    repeat: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="Copies of it that are learned.")
    samples: int | None = Field(default=None, ge=1, description="How many samples are expected, to within 1 %.")
    hub: str | None = Field(default=None, description="Where it is published.")
    revision: str | None = Field(default=None, description="Which version of it.")
    licence: str | None = Field(default=None, description="Under which terms.")
    note: str | None = Field(default=None, description="What else is to be known.")


def read_sources(section: Located, stage: str) -> list[SourceConfig]:
    """The sources that one of `STAGES` names in the section `data:`, in order.

    Each entry is a path to a .json or .jsonl file, a name in `data.sources`, or `{source: NAME, repeat: 2}`. Paths in
    them become relative to the current folder. Raises ConfigError with every problem.
    """
    problems: list[str] = []
    found = [source for entry in _entries(section, stage) for source in _entry(section, *entry, problems)]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return found


def check_sources(section: Located) -> None:
    """Raises ConfigError with every problem of the stages' entries and of `data.sources`, used or not."""
    problems: list[str] = []
    sources = _at(section, "sources")
    if sources is not None:
        if isinstance(sources.value, dict):
            for name in sources.value:
                list(_named(section, name, problems))
        else:
            problems.append(_got("data.sources", sources, "a mapping from names to sources"))
    problems += [
        f"{value.origin}: data.{old}: renamed to data.{new}"
        for old, new in RENAMED.items()
        if (value := _at(section, old)) is not None
    ]
    for stage in STAGES:
        for key, entry in _entries(section, stage):
            list(_entry(section, key, entry, problems))
    for key in ("root", "media_root"):
        value = _at(section, key)
        if value is not None and not isinstance(value.value, str):
            problems.append(_got(f"data.{key}", value, "a folder"))
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))


def _at(section: Located, key: str) -> Located | None:
    """A key of the section, None where it is missing or null."""
    value = section.value.get(key) if isinstance(section.value, dict) else None
    return None if value is None or value.value is None else value


def _entries(section: Located, stage: str) -> list[tuple[str, Located]]:
    value = _at(section, stage)
    if value is None:
        return []
    if isinstance(value.value, list):
        return [(f"data.{stage}.{place}", item) for place, item in enumerate(value.value)]
    return [(f"data.{stage}", value)]


def _entry(section: Located, key: str, entry: Located, problems: list[str]) -> Iterator[SourceConfig]:
    """The source that an entry names, or nothing and a problem more."""
    known = _at(section, "sources")
    names = list(known.value) if known is not None and isinstance(known.value, dict) else []
    content = entry.value
    if isinstance(content, str) and content not in names and content.endswith(FILES):
        yield from _file(section, key, entry, problems)
        return
    options = {"source": entry} if isinstance(content, str) else dict(content) if isinstance(content, dict) else {}
    name = options.pop("source", None)
    if name is None or not isinstance(name.value, str):
        expected = "a .json or .jsonl file, a name in data.sources, or {source: NAME, repeat: NUMBER}"
        problems.append(_got(key, entry, expected))
        return
    wrong = [option for option in options if option != "repeat"]
    problems += [
        f"{options[o].origin}: {key}.{o}: unknown option{nearest(o, ['repeat'])} Options: repeat." for o in wrong
    ]
    if name.value not in names:
        listed = f"Sources: {', '.join(names)}" if names else "data.sources has none"
        problems.append(
            f"{name.origin}: {key}: unknown source {name.value!r}{nearest(name.value, names)} {listed}; a file's name "
            "ends in .json or .jsonl."
        )
    elif not wrong:
        yield from _named(section, name.value, problems, {f"{key}.{o}": options[o] for o in options})


def _file(section: Located, key: str, entry: Located, problems: list[str]) -> Iterator[SourceConfig]:
    options = {"name": Located(FILE_READER, entry.origin), "path": entry}
    media_root = _at(section, "media_root")
    if media_root is not None:
        options["media_root"] = media_root
    reader = _reader(section, key, Located(options, entry.origin), problems)
    if reader is not None:
        yield SourceConfig(name=entry.value, reader=reader)


def _named(
    section: Located, name: str, problems: list[str], entry: dict[str, Located] | None = None
) -> Iterator[SourceConfig]:
    """A source of `data.sources`, with what the entry that names it changes."""
    key = f"data.sources.{name}"
    given = section.at(["sources", name])
    if not isinstance(given.value, dict):
        problems.append(_got(key, given, "a mapping with `reader:`"))
        return
    options = dict(given.value)
    if "name" in options:
        problems.append(f"{options['name'].origin}: {key}.name: unknown option; the source's name is its key.")
        return
    reader = None
    if "reader" in options:
        reader = _reader(section, f"{key}.reader", options["reader"], problems)
        if reader is None:  # said already: a stand-in lets the other options be checked
            reader = SlotConfig(name="?")
        options["reader"] = Located(reader, given.origin)
    options["name"] = Located(name, given.origin)
    try:
        source = validated(SourceConfig, key, Located(options, given.origin))
        for place, repeat in (entry or {}).items():
            changed = Located(options | {"repeat": repeat}, given.origin)
            source = validated(SourceConfig, place.removesuffix(".repeat"), changed)
    except ConfigError as error:
        problems += error.problems
        return
    if source.reader.name != "?":
        yield source


def _reader(section: Located, key: str, given: Located, problems: list[str]) -> SlotConfig | None:
    """A reader's options, its paths relative to the current folder."""
    if isinstance(given.value, str):
        given = Located({"name": given}, given.origin)
    if not isinstance(given.value, dict) or not isinstance(given.at(["name"]).value, str):
        problems.append(_got(key, given, "a mapping with a reader's `name:` and its options"))
        return None
    name = given.value["name"]
    try:
        provider = load_registry().find("reader", name.value)
        if missing := provider.missing():
            raise PluginError(f"{provider} needs {', '.join(missing)}: {provider.status}")
        config = validated(slot_config("reader", name.value), key, given)
    except PluginError as error:
        problems.append(f"{name.origin}: {key}: {error}")
        return None
    except ConfigError as error:
        problems += error.problems
        return None
    root = _at(section, "root")
    if root is None or not isinstance(root.value, str):
        return config
    paths = {option: getattr(config, option, None) for option in ("path", "media_root")}
    return config.model_copy(
        update={option: str(Path(root.value) / path) for option, path in paths.items() if isinstance(path, str)}
    )


def _got(key: str, value: Located, expected: str) -> str:
    shown: Any = value.plain()
    return f"{value.origin}: {key}: got {shown!r}, expected {expected}."
