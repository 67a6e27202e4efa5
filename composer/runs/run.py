"""A recipe's stages trained one after the other, then evaluated. Everything is an ordinary command. No torch here."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from composer.atomic import check_writable
from composer.errors import ComposerError, ConfigError
from composer.recipe.data import SPLITS_OF
from composer.recipe.explain import nearest
from composer.recipe.missing import check_present
from composer.recipe.overrides import as_parts, from_environment
from composer.recipe.resolve import SECTIONS, Layer, merge_sections, recorded
from composer.recipe.stages import EVALUATION, ResolvedStage, resolve_stages, run_folder
from composer.recipe.yamlfile import load_recipes
from composer.runs.evaluations import RESULTS, named
from composer.runs.process import start_process
from composer.runs.steps import LOG, Step, carry_out, is_finished, rename_old

Flags = Sequence[tuple[str, str]]
"""Flags of a recipe's sections and their values, as typed: `("--data.frames", "16")`."""


def run(
    recipe: Path,
    *,
    stage: str | None = None,
    start: str | None = None,
    overlays: Sequence[Path] = (),
    flags: Flags = (),
    environment: Mapping[str, str] | None = None,
    output: Path | None = None,
) -> int:
    """Train a recipe's stages one after the other, then evaluate the last one. Resumes where it stopped.

    Everything is validated before the first stage starts. Each stage and each benchmark is a command in a process of
    its own, which runs once and is logged in `run.jsonl`.

    Args:
        recipe: A folder of stages such as `1-pretrain.yaml`, or one recipe.
        stage: Train only this stage; the one before must be finished.
        start: Rerun from this stage; old folders are renamed. `evaluation`: rerun only the benchmarks.
        overlays: Recipes that override the one of each stage.
        flags: Flags of `composer fit` for each stage, such as `("--trainer.max_steps", "100")`.
        environment: Variables such as `COMPOSER_DATA__FRAMES` that override what the files say.
        output: Folder of the run; `runs/RECIPE` if not given.

    Returns:
        0, or the exit status of the stage or evaluation that failed.

    Raises:
        ConfigError: The recipe, a flag or a stage's name is wrong, or a finished stage differs from the recipe.
        DataError: The data of a stage are missing.
    """
    _refuse_own([flag for flag, _ in flags])
    variables = from_environment(environment or {})
    stages = resolve_stages(recipe, overlays, flags=as_parts(flags), environment=variables)
    output = output or run_folder(recipe)
    fits = list(_fits(stages, flags, overlays, variables, output))
    evaluations = list(_evaluations(stages[-1], fits[-1], output))
    steps, again = _select([*fits, *evaluations], fits, stage, start)
    check_writable(output / LOG)
    for resolved, step in zip(stages, fits, strict=True):
        if step in again or (step in steps and not is_finished(step)):
            _check_data(resolved, recipe)
    if start is not None:
        # Last first: killed in between, the rest is still a complete beginning of the run.
        for folder in (output / EVALUATION, *(step.folder for step in reversed(again))):
            rename_old(folder)
    return carry_out(steps, output, start_process)


def _select(
    steps: Sequence[Step], fits: Sequence[Step], stage: str | None, start: str | None
) -> tuple[list[Step], list[Step]]:
    """The steps to carry out, and the stages to train again. Raises ConfigError for a name that does not exist."""
    names = [step.name for step in fits]
    if stage is not None:
        _check_name("--stage", stage, names)
        steps = [step for step in fits if step.name == stage]
    if start is None:
        return list(steps), []
    _check_name("--from", start, [*names, EVALUATION])
    return list(steps), [] if start == EVALUATION else list(fits[names.index(start) :])


def _check_data(stage: ResolvedStage, recipe: Path) -> None:
    """Raise ConfigError or DataError if the data of a stage are missing, naming the stage."""
    try:
        check_present(stage.recipe.data, SPLITS_OF["fit"], recipe)
    except ComposerError as error:
        raise type(error)(f"{stage.name}: {error}") from error


def _fits(
    stages: Sequence[ResolvedStage], flags: Flags, overlays: Sequence[Path], environment: Layer, output: Path
) -> Iterator[Step]:
    """A step for each stage."""
    overlays = [path for path in overlays if not _only_evaluation(path)]
    by_section = sorted(flags, key=lambda flag: SECTIONS.index(flag[0][2:].partition(".")[0]))
    typed = [f"{flag}={text}" for flag, text in by_section]
    previous: Step | None = None
    for stage in stages:
        words = ["fit"]
        for path in (stage.path, *overlays):
            words += ["--config", str(path)]
        if previous is not None:
            words.append(f"--training.initial_weights={previous.folder}")
        folder = output / stage.name
        words += ["--ckpt_path", "last", f"--trainer.default_root_dir={folder}", *typed]
        previous = Step(stage.name, tuple(words), folder, _record(stage, environment), previous)
        yield previous


def _only_evaluation(overlay: Path) -> bool:
    """Whether a file and what it includes say nothing but `evaluation:`, which no stage reads."""
    return {key for file in load_recipes([overlay]) for key in file.value} == {EVALUATION}


def _record(stage: ResolvedStage, environment: Layer) -> dict[str, object]:
    """What a finished stage remembers of its recipe; its flags are in the command."""
    sections = merge_sections([*stage.files, *environment]).plain()
    return {"model": recorded(stage.recipe.model)} | {key: v for key, v in sections.items() if key != EVALUATION}


def _evaluations(stage: ResolvedStage, last: Step, output: Path) -> Iterator[Step]:
    """A step for each benchmark of the last stage."""
    for evaluation in named(stage.recipe.evaluation):
        folder = output / EVALUATION / evaluation.name
        words = evaluation.words(last.folder, folder)
        yield Step(f"{EVALUATION}/{evaluation.name}", words, folder, {}, last, RESULTS, f"with --from {EVALUATION}")


def _refuse_own(given: Sequence[str]) -> None:
    """Raise ConfigError for flags that `composer run` sets itself."""
    instead = {
        "--ckpt_path": "every stage resumes its own run",
        "--trainer.default_root_dir": "every stage has a folder of its own; set the run's with --output DIR",
        "--training.initial_weights": "a stage starts from the one before; write the first one's in its own file",
    }
    if problems := [f"{flag}: {instead[flag]}" for flag in given if flag in instead]:
        raise ConfigError(problems)


def _check_name(flag: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise ConfigError(f"{flag}: got {name!r}, expected one of {', '.join(names)}{nearest(name, names)}")
