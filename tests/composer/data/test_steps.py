"""Micro-batches: packed and padded rows say the same, and add up to one step."""

import random
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from composer.batch import IGNORE_LABEL, Batch, Clip, Example
from composer.data.steps import StepChunks, StepLoader, first_fit, micro_batches, pack_row, packed_rows
from composer.errors import DataError
from composer.model.compose import compose
from composer.model.multimodal import MultimodalModel
from composer.model.processor import collate
from composer.recipe.resolve import model_config
from composer.sample import Media, Message, Sample

BACKBONES: dict[str, dict[str, Any]] = {
    "rwkv6": {"name": "rwkv6", "width": 32, "depth": 2, "head_size": 16},
    "rwkv7": {"name": "rwkv7", "width": 32, "depth": 2, "head_size": 16},
    "transformer": {"name": "transformer", "width": 32, "depth": 2, "heads": 2},
}


def model_with(backbone: str) -> MultimodalModel:
    torch.manual_seed(0)
    encoder = {"name": "openclip", "image_size": 16, "patch_size": 8, "width": 16, "depth": 2, "heads": 2}
    parts = {"encoder": encoder, "projector": "mlp", "backbone": BACKBONES[backbone]}
    model = compose(model_config({**parts, "prompt": {"tokenizer": "bytes"}}))
    with torch.no_grad():  # RWKV starts from zeros, through which nothing could leak
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def examples(model: MultimodalModel, count: int = 5) -> list[Example]:
    """Conversations of unequal lengths about 0, 1 or 2 clips of two sizes."""
    chance = random.Random(1)
    found = []
    for i in range(count):
        sizes = [(16, 16), (16, 24)][: i % 3]
        clips = [
            Clip(torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8), torch.arange(2).float()) for size in sizes
        ]
        media = [Media("video", f"{i}-{k}.mp4") for k in range(len(clips))]
        answer = "yes " * chance.randint(1, 9)
        turns = (Message("user", (*media, f"What is {i}?")), Message("assistant", (answer,)))
        found.append(model.processor.encode(Sample(f"s{i}", "made", turns), clips))
    return found


def gradients(model: MultimodalModel, batches: list[Batch]) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of the mean over all target tokens of these batches."""
    model.zero_grad()
    targets = sum(int((batch.labels[:, 1:] != IGNORE_LABEL).sum()) for batch in batches)
    total = torch.zeros(())
    for batch in batches:
        out = model(batch)
        loss = out.loss * out.targets / targets
        loss.backward()
        total += loss.detach()
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("max_tokens", [80, 150, 10_000])
def test_packed_rows_have_the_loss_and_the_gradients_of_padded_rows(backbone: str, max_tokens: int) -> None:
    model = model_with(backbone)
    made = examples(model)
    rows = packed_rows([made[:2], made[2:]], max_tokens)
    assert isinstance(rows, list)
    assert sum(len(row.sample_ids) for row in rows) == len(made)
    loss, expected = gradients(model, [collate(made)])
    got, found = gradients(model, rows)
    torch.testing.assert_close(got, loss, rtol=1e-5, atol=1e-6)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = float(gradient.abs().max()) or 1.0
        torch.testing.assert_close(found[name] / scale, gradient / scale, rtol=0, atol=2e-4, msg=name)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_planted_leak_changes_the_loss(backbone: str) -> None:
    model = model_with(backbone)
    row = pack_row(examples(model))
    leaking = row._replace(cu_seqlens=(0, row.ids.shape[1]))
    with torch.no_grad():
        assert abs(float(model(row).loss - model(leaking).loss)) > 1e-3


@pytest.mark.parametrize("backbone", BACKBONES)
def test_what_begins_with_a_label_is_not_predicted_by_the_sample_before_it(backbone: str) -> None:
    """No template labels a sample's first position, and if one did, in a padded row nothing would predict it."""
    model = model_with(backbone)
    made = [example._replace(labels=example.ids.where(example.ids >= 0, IGNORE_LABEL)) for example in examples(model)]
    made[2] = made[2]._replace(ids=made[0].ids, labels=made[0].ids, clips=(), visual=())  # a first position with a loss
    assert any(example.labels[0] != IGNORE_LABEL for example in made[1:])
    row = pack_row(made)
    assert len(row.predicting) == len(collate(made).predicting)
    ends = {sum(len(example.ids) for example in made[:i]) - 1 for i in range(1, len(made) + 1)}
    assert not ends & set(row.predicting.tolist())
    with torch.no_grad():
        torch.testing.assert_close(model(row).loss, model(collate(made)).loss, rtol=1e-5, atol=1e-6)


def test_a_row_holds_what_its_samples_hold() -> None:
    model = model_with("rwkv6")
    made = examples(model, 3)
    row = pack_row(made)
    assert row.cu_seqlens is not None
    starts = row.cu_seqlens
    for example, start, end in zip(made, starts, starts[1:], strict=False):
        assert torch.equal(row.ids[0, start:end], example.ids)
        assert torch.equal(row.labels[0, start + 1 : end], example.labels[1:])
    assert row.sample_ids == ("s0", "s1", "s2")


def test_first_fit_against_brute_force() -> None:
    chance = random.Random(0)
    for _ in range(200):
        lengths = [chance.randint(1, 30) for _ in range(chance.randint(0, 20))]
        limit = chance.randint(5, 40)
        rows = first_fit(lengths, limit)
        assert sorted(place for row in rows for place in row) == list(range(len(lengths)))
        for number, row in enumerate(rows):
            assert sum(lengths[i] for i in row) <= limit or len(row) == 1
            for place in row:  # no earlier row had room when it came
                for earlier in rows[:number]:
                    assert sum(lengths[i] for i in earlier if i < place) + lengths[place] > limit


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
def test_chunks_and_steps_keep_the_order(size: int) -> None:
    chunks = StepChunks(range(8), 4, size)
    listed = list(chunks)
    assert [number for chunk in listed for number in chunk] == list(range(8))
    assert len(listed) == len(chunks) == 2 * chunks.chunks_per_step
    assert all(len(chunk) <= size and chunk[0] // 4 == chunk[-1] // 4 for chunk in listed)
    loader = DataLoader(range(8), batch_sampler=chunks, collate_fn=list, num_workers=2)  # type: ignore[arg-type]
    steps = StepLoader(loader, chunks.chunks_per_step, lambda step: [number for chunk in step for number in chunk])
    assert list(steps) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(steps) == 2


def test_a_step_of_chunks_is_its_micro_batches_or_the_first_error() -> None:
    model = model_with("rwkv6")
    made = examples(model, 5)
    error = DataError("bad")
    batches = [collate(made[:3]), collate(made[3:])]
    assert micro_batches(batches) == batches
    assert micro_batches([*batches, error]) is error
    assert packed_rows([made[:3], [*made[3:], error]], 80) is error
