"""What a recipe's `data:` section says of its samples, without opening a file. No torch here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from composer.errors import ConfigError
from composer.explain import nearest
from composer.yamlfile import Located

VIDEO_WORDS = ("video", "clip", "frames")
TOLERANCE = 1e-3
"""Largest share by which the samples may miss `expected_samples`: published counts are rounded to thousands."""


@dataclass(frozen=True)
class SourcePlan:
    """A source of a stage. samples: those learned in an epoch, None where no count is stated. video: by its name."""

    name: str
    repeat: float
    samples: int | None
    video: bool


def sources_of(data: Located) -> list[SourcePlan]:
    """The sources of `data.train`, in order. Raises ConfigError with every problem."""
    problems: list[str] = []
    listed = data.value.get("train") if isinstance(data.value, dict) else None
    if listed is None or listed.value is None:
        return []
    entries = listed.value if isinstance(listed.value, list) else [listed]
    known = data.at(["sources"]).value if "sources" in data.value else {}
    found = list(_read(entries, known if isinstance(known, dict) else {}, problems))
    if problems:
        raise ConfigError(problems)
    return found


def _read(entries: list[Located], known: dict[str, Located], problems: list[str]) -> Iterator[SourcePlan]:
    for place, entry in enumerate(entries):
        options = entry.value if isinstance(entry.value, dict) else {"source": entry}
        source = options.get("source")
        if source is None or not isinstance(source.value, str):
            problems.append(
                f"{entry.origin}: data.train.{place}: got {entry.plain()!r}, expected a file, a name in data.sources, "
                "or {source: NAME, repeat: NUMBER}."
            )
            continue
        name = source.value
        if name not in known:
            if name.endswith((".json", ".jsonl")):
                # Stills or videos: the larger is assumed.
                yield SourcePlan(name, 1.0, None, video=True)
                continue
            problems.append(f"{source.origin}: data.train.{place}: unknown source {name!r}{nearest(name, known)}")
            continue
        stated = known[name].plain()
        stated = stated if isinstance(stated, dict) else {}
        repeat = options["repeat"].value if "repeat" in options else stated.get("repeat", 1.0)
        samples = stated.get("samples")
        for key, value in (("repeat", repeat), ("samples", 1 if samples is None else samples)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                problems.append(f"{entry.origin}: {name}: {key}: got {value!r}, expected a positive number.")
                break
        else:
            learned = None if samples is None else max(1, round(samples * repeat))
            yield SourcePlan(name, float(repeat), learned, _is_video(name, stated.get("reader")))


def _is_video(name: str, reader: Any) -> bool:
    places = [reader.get(key) or "" for key in ("path", "media_root")] if isinstance(reader, dict) else []
    return any(word in text.lower() for text in (name, *places) for word in VIDEO_WORDS)


def total(sources: list[SourcePlan]) -> int | None:
    """Samples of an epoch, None where a source states none."""
    counts = [source.samples for source in sources if source.samples is not None]
    return sum(counts) if counts and len(counts) == len(sources) else None


def shortfall(samples: int | None, expected: int | None) -> str | None:
    """Says where the sources do not add up to what the stage claims."""
    if samples is None or expected is None or abs(samples - expected) <= TOLERANCE * expected:
        return None
    return (
        f"data.expected_samples: the sources' samples x repeat are {samples:,}, expected {expected:,} to within "
        f"{TOLERANCE:.1%}: change a repeat, or the claim."
    )
