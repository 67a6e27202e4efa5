"""A projector that keeps the contract passes; each planted violation is named."""

import pytest
import torch
from torch import Tensor, nn

from composer.testing import check_projector
from tests.composer.stand_ins import LinearProjector


class Mixing(LinearProjector):
    """Lets the frames of a batch see each other."""

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features - features.mean(dim=0))


class WrongWidth(LinearProjector):
    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features)[..., :-1]


class Writing(LinearProjector):
    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features.mul_(2))


class Unused(LinearProjector):
    def __init__(self, *, in_dim: int, out_dim: int) -> None:
        super().__init__(in_dim=in_dim, out_dim=out_dim)
        self.scale = nn.Parameter(torch.ones(1))


class Detached(LinearProjector):
    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features.detach())


class Random(LinearProjector):
    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features) + 1e-6 * torch.randn(())


def test_a_sound_projector_passes() -> None:
    check_projector(LinearProjector(in_dim=6, out_dim=4))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Mixing, "other frames"),
        (WrongWidth, r"\(2, 5, 3\), expected \(2, 5, 4\)"),
        (Writing, "copy them before writing"),
        (Unused, "no gradient reaches scale"),
        (Detached, "no gradient reaches the features"),
        (Random, "deterministic"),
    ],
)
def test_a_violation_is_named(broken: type[LinearProjector], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_projector(broken(in_dim=6, out_dim=4))
