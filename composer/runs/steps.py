"""Steps of `composer run` and `sweep`: commands that run one after the other, each once, and are recorded. No torch."""

import hashlib
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

from composer.atomic import replacing, writing
from composer.errors import ConfigError
from composer.recipe.explain import differences

RECORD = "finished.json"
LOG = "run.jsonl"

Start = Callable[[Sequence[str]], int]
"""Runs `composer WORDS` and returns its exit status."""


class Record(TypedDict):
    """Record of a finished step."""

    time: str
    command: str
    after: str | None
    fingerprint: str
    recipe: Mapping[str, object]


@dataclass(frozen=True)
class Step:
    """One command of a run.

    Attributes:
        name: Name of the stage or evaluation.
        words: The command line after `composer`.
        folder: Where the command writes.
        recipe: Content of its files, as plain values for JSON.
        needs: The step whose result it starts from.
        result: A file in the folder that only a finished command leaves, or None.
        again: How to rerun the step, such as `with --from evaluation`; "" for `with --from NAME`.
    """

    name: str
    words: tuple[str, ...]
    folder: Path
    recipe: Mapping[str, object]
    needs: "Step | None" = None
    result: str | None = None
    again: str = ""

    @property
    def remedy(self) -> str:
        """How to rerun the step, as the end of a sentence."""
        return self.again or f"with --from {self.name}"

    @property
    def command(self) -> str:
        """The command line."""
        return shlex.join(("composer", *self.words))

    @property
    def fingerprint(self) -> str:
        """Hash of the recipe's content."""
        return hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode()).hexdigest()


def carry_out(steps: Sequence[Step], output: Path, start: Start) -> int:
    """Run the steps that are not finished; return 0, or the exit status of the step that failed.

    Raises ConfigError before anything runs, if a finished step would differ from the present one, or if a step that
    another one needs is neither finished nor among `steps`.
    """
    for step in steps:
        _check(step, steps)
    for step in steps:
        if is_finished(step):
            _say(f"{step.name} is finished")
            continue
        _say(f"{step.name}:\n{step.command}")
        _log(output, step, "started")
        status = start(step.words)
        if status:
            _log(output, step, "failed", status)
            sys.stderr.write(
                f"composer: {step.name} ended with status {status}: run the same command again to resume\n"
            )
            return status
        _record(step)
        _log(output, step, "finished", status)
    return 0


def is_finished(step: Step) -> bool:
    """Whether a step has finished, with its present command or with a former one.

    A result without a record is not enough: it may belong to an evaluation of a different checkpoint.
    """
    return all((step.folder / name).exists() for name in (RECORD, step.result) if name is not None)


def rename_old(folder: Path) -> None:
    """Rename a step's folder to the first free name FOLDER.replaced-N; nothing is deleted."""
    if folder.exists():
        number = 1
        while (old := folder.with_name(f"{folder.name}.replaced-{number}")).exists():
            number += 1
        folder.rename(old)
        _say(f"{folder} is renamed to {old.name}")


def _check(step: Step, steps: Sequence[Step]) -> None:
    if not is_finished(step):
        if step.needs is not None and step.needs not in steps and not is_finished(step.needs):
            raise ConfigError(
                f"{step.name} starts from {step.needs.name}, which is not finished: "
                f"{step.needs.folder / RECORD} is missing. Run it first with --stage {step.needs.name}, or all stages "
                "without --stage"
            )
        if step.needs is not None and step.needs not in steps:
            _check(step.needs, [step.needs])
        return
    record = _read(step)
    remedy = f"Change it back, or rerun the step and all that follow {step.remedy}"
    where = f"{step.name} is finished ({step.folder / RECORD}), "
    changed = [f"  {line}" for line in differences(record["recipe"], json.loads(json.dumps(step.recipe)), "recipe")]
    if changed:
        raise ConfigError("\n".join([f"{where}but its recipe has changed:", *changed[:10], remedy]))
    if record["command"] != step.command:
        raise ConfigError(
            f"{where}but its command has changed:\n  was {record['command']}\n  is  {step.command}\n{remedy}"
        )
    if step.needs is not None and record["after"] != _time(step.needs):
        raise ConfigError(
            f"{where}but it started from a different run of {step.needs.name} than the one in {step.needs.folder}: "
            f"rerun it and all that follow {step.remedy}"
        )


def _record(step: Step) -> None:
    """Write the record of a finished step atomically."""
    record: Record = {
        "time": _now(),
        "command": step.command,
        "after": None if step.needs is None else _time(step.needs),
        "fingerprint": step.fingerprint,
        "recipe": step.recipe,
    }
    with replacing(step.folder / RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _read(step: Step) -> Record:
    """Read the record of a finished step."""
    path = step.folder / RECORD
    try:
        record: Record = json.loads(path.read_text(encoding="utf-8"))
        record["time"], record["command"], record["after"], record["fingerprint"], record["recipe"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: not the record of a finished step ({error!r}): rerun the step {step.remedy}"
        ) from error
    return record


def _time(step: Step) -> str | None:
    return _read(step)["time"] if (step.folder / RECORD).exists() else None


def _log(output: Path, step: Step, status: str, exit_status: int | None = None) -> None:
    line: dict[str, object] = {"time": _now(), "stage": step.name, "command": step.command, "status": status}
    if exit_status is not None:
        line["exit_status"] = exit_status
    output.mkdir(parents=True, exist_ok=True)
    with writing(output / LOG), (output / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
