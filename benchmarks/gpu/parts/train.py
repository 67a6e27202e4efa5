"""Optimizer step of each stage at real size: micro-batch, time, throughput, MFU, and memory compared with the plan."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

from benchmarks.gpu.context import Context, is_out_of_memory
from benchmarks.gpu.parts.ceilings import MATMUL
from benchmarks.gpu.recipes import STAGES, Stage, batch, stage
from benchmarks.gpu.timing import clock, free, peak_gib, reset_peak, seconds
from benchmarks.gpu.training import Training
from composer.planning.stage import StagePlan

TOLERANCE = 0.15
"""Tolerance, relative to the plan's memory."""


class Case(NamedTuple):
    """A stage and a number of frames per sample. most: maximum samples per micro-batch, the stage's batch size."""

    stage: str
    frames: int
    most: int

    @property
    def name(self) -> str:
        kind = "images" if self.frames == 1 else f"videos of {self.frames} frames"
        return f"{self.stage}, {kind}"


def cases(context: Context) -> list[Case]:
    """Return the cases: all stages on images, the last one on videos too."""
    if context.tiny:
        return [Case(name, 1, 2) for name in STAGES] + [Case(STAGES[-1], 4, 2)]
    return [Case(STAGES[0], 1, 128), Case(STAGES[1], 1, 256), Case(STAGES[2], 48, 32), Case(STAGES[2], 1, 256)]


def run(context: Context) -> None:
    peak = context.ceiling(MATMUL) * 1e12
    remaining = cases(context)
    while remaining:
        case = remaining[0]
        if context.wants(f"{case.name}: step", 20):
            share = context.left() / len(remaining)
            context.attempt(f"{case.name}: step", lambda case=case, share=share: _measure(context, case, peak, share))
        free(context.device)
        remaining = remaining[1:]


def _measure(context: Context, case: Case, peak: float, share: float) -> None:
    device = context.device
    part = stage(case.stage, tiny=context.tiny)
    training = Training(part, device)
    until = context.left() - share
    rows, step = _timed(context, training, case, _largest(context, training, case, until))
    example = batch(training.model, case.frames, rows)
    memory, loss = peak_gib(device), float(training.step(example))
    tokens = example.ids.numel()
    plan = part.plan(case.frames, rows)
    flops = rows * _operations(part, plan, case)
    name = case.name
    context.add(
        f"{name}: micro-batch", rows, "samples", note=f"largest that fits, of {case.most} tried; loss {loss:.3g}"
    )
    note = f"{tokens // rows:,} positions per sample"
    context.add(f"{name}: step", step, "s", limit=flops / peak, higher_is_better=False, note=f"share is MFU; {note}")
    context.add(f"{name}: tokens", tokens / step, "tokens/s")
    context.add(f"{name}: frames", rows * case.frames / step, "frames/s" if case.frames > 1 else "images/s")
    if memory is None:
        context.missing(f"{name}: peak memory", "memory is counted on CUDA only")
        return
    planned = plan.memory_gib["total"]
    within = "within" if abs(memory - planned) <= TOLERANCE * planned else "NOT within"
    note = f"limit is the plan's prediction: measured / planned {memory / planned:.2f}, {within} {TOLERANCE:.0%}"
    context.add(f"{name}: peak memory", memory, "GiB", limit=planned, note=note)


def _timed(context: Context, training: Training, case: Case, rows: int) -> tuple[int, float]:
    """Measure a step on `rows` samples, or on fewer: later steps need more memory than the first one."""
    while True:
        training.release()
        free(context.device)
        reset_peak(context.device)
        example = batch(training.model, case.frames, rows)
        try:
            least = 0 if context.tiny else 2
            return rows, seconds(partial(training.step, example), context.device, warmup=1, least=least)
        except Exception as error:
            if not is_out_of_memory(error) or rows == 1:
                raise
            print(f"{case.name}: {rows} do not fit in several steps", flush=True)
        rows = rows * 7 // 8


def _operations(part: Stage, plan: StagePlan, case: Case) -> float:
    """FLOPs of one sample's step, without recomputation by activation checkpointing."""
    if part.training.gradient_checkpointing:
        training = part.training.model_copy(update={"gradient_checkpointing": False})
        plan = replace(part, recipe=replace(part.recipe, training=training)).plan(case.frames, 1)
    return plan.flops_per_sample["image" if case.frames == 1 else "video"]


def _largest(context: Context, training: Training, case: Case, until: float) -> int:
    """Find the largest micro-batch that fits: doubled until memory runs out, then bisected to an eighth.

    The search ends when fewer than `until` seconds are left. Raises the error if not even one sample fits.
    """
    fits, fails = 0, case.most + 1
    rows = 1 if case.frames > 1 or context.tiny else 8
    while rows > fits:
        try:
            taken = clock(lambda rows=rows: training.step(batch(training.model, case.frames, rows)), context.device)
            print(f"{case.name}: {rows} fit, {taken:.2f} s", flush=True)
            fits = rows
        except Exception as error:
            if not is_out_of_memory(error) or rows == 1:
                raise
            print(f"{case.name}: {rows} do not fit", flush=True)
            fails = rows
        training.release()
        free(context.device)
        if context.left() < until + 10 and fits and not context.tiny:
            break
        rows = min(2 * fits, case.most) if fails > case.most else _between(fits, fails)
    return fits


def _between(fits: int, fails: int) -> int:
    """Return the next number to try, or `fits` if it is close enough."""
    return fits if fails - fits <= max(1, fails // 8) else (fits + fails) // 2
