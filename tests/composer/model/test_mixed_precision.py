"""The composed model trained in bf16-mixed, part by part as AuroraLong's stages train it, against fp32."""

import copy

import pytest
import torch
from torch import Tensor

from composer.batch import Batch
from composer.data.steps import pack_row
from composer.model.compose import compose
from composer.model.multimodal import MultimodalModel
from composer.model.processor import collate
from composer.recipe.training import TrainingConfig
from composer.training.optim import RecipeAdamW, parameter_groups
from tests.composer.model.test_host_reads import BACKBONES, config, examples

STAGES = [("projector",), ("encoder", "projector"), ("encoder", "projector", "backbone")]


def trained(train: tuple[str, ...], backbone: str) -> MultimodalModel:
    torch.manual_seed(0)
    model = compose(config("openclip", "tome", backbone))
    with torch.no_grad():  # RWKV starts from zeros, through which no gradient would pass
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    for name, part in model.parts().items():
        part.requires_grad_(name in train)
    return model


def step(model: MultimodalModel, batch: Batch, precision: torch.dtype) -> dict[str, Tensor]:
    """The loss and the gradients of one step in this precision; then AdamW takes it."""
    optimizer = RecipeAdamW(parameter_groups(model, TrainingConfig(learning_rate=0.01)))
    with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
        loss = model(batch).loss
    loss.backward()
    optimizer.step()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **gradients}


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("train", STAGES, ids=["pretrain", "vision", "language"])
def test_a_step_in_bf16_is_near_the_step_in_fp32(train: tuple[str, ...], backbone: str, pack: bool) -> None:
    model = trained(train, backbone)
    batch = (pack_row if pack else collate)(examples(model))
    other = copy.deepcopy(model)
    before = copy.deepcopy(model)
    expected, found = step(model, batch, torch.float32), step(other, batch, torch.bfloat16)
    assert found.keys() == expected.keys()
    assert found["loss"] == pytest.approx(float(expected["loss"]), rel=0.01)
    for name, value in found.items():
        assert value.dtype == torch.float32, name
    joined = [torch.cat([g.flatten() for name, g in one.items() if name != "loss"]) for one in (found, expected)]
    assert torch.cosine_similarity(*joined, dim=0) > 0.99
    for name, weight in other.named_parameters():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, before.get_parameter(name)) == (name.partition(".")[0] not in train), name


@pytest.mark.parametrize(("train", "frozen"), [(STAGES[0], True), (STAGES[1], False)])
def test_no_graph_is_kept_of_what_comes_before_the_first_trained_part(train: tuple[str, ...], frozen: bool) -> None:
    model = trained(train, "rwkv6")
    outputs: dict[str, Tensor] = {}
    model.projector.register_forward_pre_hook(lambda _, args: outputs.update(tokens=args[0]))
    model.backbone.model.emb.register_forward_hook(lambda _, args, out: outputs.update(embeds=out))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(collate(examples(model))).loss.backward()
    assert (outputs["tokens"].grad_fn is None) == frozen
    assert outputs["embeds"].grad_fn is None  # the embedding is not trained in either stage
