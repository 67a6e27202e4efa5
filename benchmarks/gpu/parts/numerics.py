"""The wkv operators on this device compared with the fp64 recurrence of the papers, and the tests marked `gpu`.

On CUDA the operators are fla's Triton kernels; on a CPU they are computed in chunks.
"""

import itertools
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.gpu.context import Context
from composer_plugins.rwkv.kernels import WKV7_LOWER_BOUND
from composer_plugins.rwkv.wkv6 import wkv6
from composer_plugins.rwkv.wkv7 import wkv7
from tests.plugins.rwkv.author import distance
from tests.plugins.rwkv.operators import VERSIONS, log_decays

ROOT = Path(__file__).parents[3]
OPERATORS = {"6": wkv6, "7": wkv7}
LOG_W = {"6": 3, "7": 1}
DECAYS = ("mild", "extreme", "none", "strong", "mixed")
BOUNDS = {torch.float32: 5e-3, torch.bfloat16: 2e-2}
"""Bounds of max |a - b| / max |b|. Triton multiplies fp32 in tf32 if the GPU supports it."""

LENGTHS = (1, 70, 132)
"""Lengths of the packed sequences; neither they nor their sum are multiples of 16."""


def run(context: Context) -> None:
    decays = DECAYS[:2] if context.tiny else DECAYS
    for decay, version, dtype, packed in itertools.product(decays, OPERATORS, BOUNDS, (False, True)):
        torch.manual_seed(0)
        inputs, cu_seqlens = _inputs(version, decay, dtype, packed, heads=1 if context.tiny else 4)
        kind = str(dtype).removeprefix("torch.")
        name = f"wkv{version} {kind} {'packed' if packed else 'one row'}, decay {decay}"
        if context.wants(name, 5):
            measure = partial(_compare, context, name, version, inputs, cu_seqlens, BOUNDS[dtype])
            context.attempt(name, measure)
    _tests(context)


def _inputs(
    version: str, decay: str, dtype: torch.dtype, packed: bool, heads: int
) -> tuple[list[Tensor], tuple[int, ...] | None]:
    """Create inputs with an initial state: T = 203 in one row, as one sequence or three packed ones."""
    *inputs, state = VERSIONS[version][0](decay, 1, sum(LENGTHS), heads, 64)
    at = LOG_W[version]
    if version == "7":  # the model's decays are bounded; the kinds are scaled to the bound
        inputs[at] = WKV7_LOWER_BOUND * (1 - torch.exp(log_decays(decay, inputs[at].shape)))
    inputs = [x if i == at or x.ndim == 2 else x.to(dtype) for i, x in enumerate(inputs)]
    if not packed:
        return [*inputs, state], None
    state = torch.randn(len(LENGTHS), *state.shape[1:])
    return [*inputs, state], (0, *itertools.accumulate(LENGTHS))


def _compare(
    context: Context, name: str, version: str, inputs: list[Tensor], cu_seqlens: tuple[int, ...] | None, bound: float
) -> None:
    def recurrence(*x: Tensor) -> tuple[Tensor, Tensor]:
        loop = VERSIONS[version][1]
        if cu_seqlens is None:
            return loop(*x)
        *timed, state = x
        parts = []
        for row, (start, end) in enumerate(itertools.pairwise(cu_seqlens)):
            parts.append(loop(*(y if y.ndim == 2 else y[:, start:end] for y in timed), state[row : row + 1]))
        return torch.cat([out for out, _ in parts], dim=1), torch.cat([end for _, end in parts])

    def operator(*x: Tensor) -> tuple[Tensor, Tensor]:
        return OPERATORS[version](*x, cu_seqlens)

    expected = _with_gradients(recurrence, [x.double() for x in inputs])
    result = _with_gradients(operator, [x.to(context.device) for x in inputs])
    errors = [distance(a.cpu().double(), b) for a, b in zip(result, expected, strict=True)]
    for label, error in (("forward", max(errors[:2])), ("backward", max(errors[2:]))):
        within = "within the bound" if error < bound else "BEYOND the bound"  # NaN is beyond it too
        context.add(f"{name}: {label}", error, "relative error", limit=bound, note=within)
    context.add(name, all(error < bound for error in errors), note="within the bound?")


def _with_gradients(operator: object, inputs: list[Tensor]) -> list[Tensor]:
    """Compute output, state and the gradient of each input, for a loss with fixed weights."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    out, state = operator(*leaves)  # type: ignore[operator]
    generator = torch.Generator().manual_seed(1)
    loss = torch.zeros((), dtype=torch.float64, device=out.device)
    for x in (out, state):
        weights = torch.randn(x.shape, generator=generator).to(x.device)
        loss = loss + (x.double() * weights).sum()
    loss.backward()
    return [out.detach(), state.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def _tests(context: Context) -> None:
    """Run `pytest -m gpu` on the files with such tests, in the remaining time."""
    marked = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "-rs", *marked]
    if not context.wants("pytest -m gpu", 20):
        return
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=max(20, context.left() - 3))
    except subprocess.TimeoutExpired as error:
        context.missing("pytest -m gpu", f"not finished after {error.timeout:.0f} s")
        return
    print(done.stdout[-20_000:], done.stderr[-5_000:], flush=True)
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["no output"]
    if re.search(r"\d+ (passed|failed|skipped|error)", lines[-1]):
        context.add("pytest -m gpu", lines[-1].strip("= "), note=f"exit status {done.returncode}")
    else:
        context.missing("pytest -m gpu", f"exit status {done.returncode}: {lines[-1]}")
