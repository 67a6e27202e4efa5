"""What the parts of `benchmarks.gpu` compute: micro-batches, intervals, prefill in chunks, inputs at real size."""

import importlib.util
import random
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.autograd import DeviceType

from benchmarks.gpu.parts import inference, profile, train
from benchmarks.gpu.prefill import frame_group, host_frames, operations_per_frame, prefill
from benchmarks.gpu.recipes import STAGES, batch, build, stage, text_of
from benchmarks.gpu.timing import seconds
from composer.batch import IGNORE_LABEL, MEDIA_ID
from composer.inference.decoding import Growing, Reserved
from composer.planning.build import build_meta
from composer.tokenizer import tokenizer_from

CPU = torch.device("cpu")


@pytest.mark.parametrize("room", [1, 2, 3, 7, 8, 9, 15, 31, 33, 100, 255, 256, 300])
@pytest.mark.parametrize("frames", [1, 48])
def test_the_micro_batch_is_the_largest_that_fits(room: int, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To an eighth, and never more than the stage's batch."""
    monkeypatch.setattr(train, "batch", lambda model, frames, rows: rows)

    def step(rows: int) -> None:
        if rows > room:
            raise torch.OutOfMemoryError

    training: Any = SimpleNamespace(model=None, step=step, release=lambda: None)
    context: Any = SimpleNamespace(device=CPU, left=lambda: 1e9, tiny=False)
    rows = train._largest(context, training, train.Case("2-vision", frames, 256), until=0)
    assert rows <= min(room, 256)
    assert rows >= min(room, 256) * 7 / 8 - 1


def test_a_sample_that_does_not_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "batch", lambda model, frames, rows: rows)

    def step(rows: int) -> None:
        raise torch.OutOfMemoryError

    training: Any = SimpleNamespace(model=None, step=step, release=lambda: None)
    context: Any = SimpleNamespace(device=CPU, left=lambda: 1e9, tiny=False)
    with pytest.raises(torch.OutOfMemoryError):
        train._largest(context, training, train.Case("2-vision", 1, 256), until=0)


def test_busy_time_is_the_union_of_intervals() -> None:
    chance = random.Random(0)
    for _ in range(50):
        ranges = [(start, start + chance.randint(1, 9)) for start in chance.choices(range(40), k=chance.randint(1, 12))]
        kernels = [SimpleNamespace(time_range=SimpleNamespace(start=start, end=end)) for start, end in ranges]
        covered = {moment for start, end in ranges for moment in range(start, end)}
        first, last = min(start for start, _ in ranges), max(end for _, end in ranges)
        assert profile._busy(kernels) == (len(covered), last - first)


def test_operators_have_the_time_of_their_kernels() -> None:
    """A kernel that an operator launched counts for the operator, any other, such as Triton's, for itself."""

    def event(name: str, taken: float, device: DeviceType, kernels: tuple[Any, ...] = ()) -> Any:
        elapsed = SimpleNamespace(elapsed_us=lambda: taken)
        return SimpleNamespace(
            name=name, time_range=elapsed, device_type=device, kernels=kernels, self_cpu_time_total=1
        )

    gemm = SimpleNamespace(name="gemm", duration=5.0)
    events = [event("aten::mm", 9, DeviceType.CPU, (gemm,))] * 3 + [event("aten::view", 9, DeviceType.CPU)]
    events += [event("gemm", 5.0, DeviceType.CUDA)] * 4 + [event("chunk_kernel", 7.0, DeviceType.CUDA)] * 2
    taken, calls = profile._operators(events, on_gpu=True)
    assert taken == {"aten::mm": 15, "gemm": 5, "chunk_kernel": 14}
    assert (calls["aten::mm"], calls["chunk_kernel"]) == (3, 2)
    assert sum(taken.values()) == 4 * 5 + 2 * 7
    on_cpu, _ = profile._operators(events[:4], on_gpu=False)
    assert on_cpu == {"aten::mm": 3, "aten::view": 1}


def test_a_prefill_in_chunks_reads_what_one_piece_reads() -> None:
    torch.manual_seed(0)
    model = build(stage("3-language", tiny=True).model, CPU)
    pixels = host_frames(model, 3, CPU)
    hidden, state = prefill(model, pixels, 7, CPU)
    with torch.no_grad():
        (visual,) = model.encode([frame_group(torch.cat([pixels, pixels, pixels[:1]]))])
        expected, expected_state = model.backbone(visual[None])
    torch.testing.assert_close(hidden, expected[:, -1], rtol=1e-4, atol=1e-4)
    for name, value in expected_state.tensors().items():
        torch.testing.assert_close(state.tensors()[name], value, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_decoded_tokens_are_those_of_reading_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "DECODED", 5)
    torch.manual_seed(0)
    backbone = build(stage("3-language", tiny=True).model, CPU).backbone
    first = torch.tensor([[5, 9], [7, 3]])
    _, state = backbone(backbone.embed(first[:, :1]))
    for decoding in (Growing(backbone, state), Reserved(backbone, backbone.reserve(state, 5))):
        tokens = inference.decode(decoding, first[:, 1])
        hidden, _ = backbone(backbone.embed(torch.cat([first, tokens], dim=1)))
        assert torch.equal(backbone.head(hidden).argmax(dim=-1)[:, 1:-1], tokens)


@pytest.mark.parametrize(("name", "frames", "tokens"), [(STAGES[0], 1, 576), (STAGES[1], 1, 576), (STAGES[2], 48, 72)])
def test_inputs_of_real_size(name: str, frames: int, tokens: int) -> None:
    model = build_meta(stage(name, tiny=False).model)
    assert sum(p.numel() for p in model.parameters()) == 1_909_857_280
    example = batch(model, frames, 2)
    assert (example.ids == MEDIA_ID).sum(dim=1).tolist() == [frames * tokens] * 2
    assert 64 <= (example.labels != IGNORE_LABEL).sum(dim=1).min() < 70
    assert example.ids.shape[1] < frames * tokens + 220
    assert example.frames[0].pixels.shape == (2 * frames, 3, 384, 384)


def test_without_the_world_vocabulary_the_model_is_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rwkv" else find(name))
    config = stage("3-language", tiny=False).model
    assert len(config.prompt.tokenizer or ()) > 60_000
    model = build_meta(config)
    assert sum(p.numel() for p in model.parameters()) == 1_909_857_280
    assert model.processor.tokenizer.decode(model.processor.tokenizer.encode("a? a")) == "a? a"


def test_the_floor_counts_every_matrix() -> None:
    """Of the tiny model, next to 2 operations for each weight and token; attention and the wkv state come on top."""
    part = stage("3-language", tiny=True)
    model = build_meta(part.model)
    side = model.encoder.transform.size
    patches, tokens = model.encoder.shape(side, side).count, model.processor.shape(side, side).count
    blocks = sum(p.numel() for p in model.encoder.tower.blocks.parameters() if p.ndim == 2)  # type: ignore[union-attr]
    least = 2 * blocks * tokens  # every block has at least the tokens that are left at the end
    most = 2 * sum(p.numel() for p in model.parameters()) * patches * 2
    assert least < operations_per_frame(part) < most


def test_no_matrix_of_a_built_model_is_zero() -> None:
    model = build(stage("3-language", tiny=True).model, CPU, torch.bfloat16)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    assert all((p != 0).float().mean() > 0.5 for p in matrices)
    assert all(p.isfinite().all() for p in matrices)


def test_text_has_as_many_tokens_as_wanted() -> None:
    for spec in ("bytes", "world", ("a?", " a")):
        tokenizer = tokenizer_from(spec)
        assert 64 <= len(tokenizer.encode(text_of(tokenizer, 64))) < 70


def test_seconds_are_of_one_run() -> None:
    assert seconds(lambda: time.sleep(0.01), CPU, least=0.1) == pytest.approx(0.01, rel=0.5)
