"""Projectors: their sizes, their values by hand, and the contract."""

import pytest
import torch

from composer.testing import check_projector
from composer_plugins.projectors import MLPConfig, composer_components
from composer_plugins.projectors.mlp import MLP, Linear


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_auroralongs_projector_has_its_published_size() -> None:
    with torch.device("meta"):
        assert parameters(MLP(in_dim=1024, out_dim=2048)) == 1024 * 2048 + 2048 + 2048 * 2048 + 2048  # 6.30 M
        assert round(parameters(MLP(in_dim=1024, out_dim=2048)) / 1e6, 2) == 6.30


def test_mlp_is_linear_gelu_linear() -> None:
    torch.manual_seed(0)
    mlp, x = MLP(in_dim=3, out_dim=5, hidden_width=7), torch.randn(2, 4, 3)
    first, second = (layer for layer in mlp.layers if isinstance(layer, torch.nn.Linear))
    hidden = x @ first.weight.T + first.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    torch.testing.assert_close(mlp(x), hidden @ second.weight.T + second.bias)


def test_depth_counts_linear_layers() -> None:
    for depth in (2, 3, 5):
        layers = MLP(in_dim=3, out_dim=5, depth=depth, hidden_width=7).layers
        shapes = [tuple(layer.weight.shape) for layer in layers if isinstance(layer, torch.nn.Linear)]
        assert shapes == [(7, 3)] + [(7, 7)] * (depth - 2) + [(5, 7)]
        assert len(layers) == 2 * depth - 1


def test_projectors_keep_the_contract() -> None:
    check_projector(MLP(in_dim=6, out_dim=4, **MLPConfig().model_dump()))
    check_projector(MLP(in_dim=6, out_dim=4, depth=4, hidden_width=9))
    check_projector(Linear(in_dim=6, out_dim=4))


def test_components_are_named() -> None:
    assert [(c.kind, c.name) for c in composer_components()] == [("projector", "linear"), ("projector", "mlp")]


@pytest.mark.parametrize("projector", [Linear(in_dim=6, out_dim=10), MLP(in_dim=6, out_dim=10)])
def test_compiles_as_one_graph(projector: Linear | MLP) -> None:
    compiled = torch.compile(projector, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 5, 6)
    torch.testing.assert_close(compiled(x), projector(x))
