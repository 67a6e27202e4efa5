"""Projectors that process each token independently."""

from torch import Tensor, nn

from composer.parts import Projector


class Linear(Projector):
    """One linear layer with bias.

    Args:
        in_dim: Channels of the visual features.
        out_dim: Width of the backbone.
    """

    def __init__(self, *, in_dim: int, out_dim: int) -> None:
        super().__init__(in_dim=in_dim, out_dim=out_dim)
        self.linear = nn.Linear(in_dim, out_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Project features [..., in_dim] to [..., out_dim]."""
        return self.linear(features)


class MLP(Projector):
    """Linear layers with bias and GELU between them (Liu et al., "Improved Baselines", 2023).

    Args:
        in_dim: Channels of the visual features.
        out_dim: Width of the backbone.
        depth: Number of linear layers.
        hidden_width: Channels between the layers; None for `out_dim`.
    """

    def __init__(self, *, in_dim: int, out_dim: int, depth: int = 2, hidden_width: int | None = None) -> None:
        super().__init__(in_dim=in_dim, out_dim=out_dim)
        hidden = hidden_width or out_dim
        layers: list[nn.Module] = [nn.Linear(in_dim, hidden)]
        for width in [hidden] * (depth - 2) + [out_dim]:
            layers += [nn.GELU(), nn.Linear(hidden, width)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Project features [..., in_dim] to [..., out_dim]."""
        return self.layers(features)
