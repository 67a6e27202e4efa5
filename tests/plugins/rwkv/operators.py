"""The recurrences of wkv6 and wkv7 as the papers write them, and inputs to run them on."""

import torch
from torch import Tensor

KINDS = ("none", "mild", "strong", "extreme", "mixed")


def loop6(r: Tensor, k: Tensor, v: Tensor, log_w: Tensor, u: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The paper's loop over positions, and nothing else."""
    out = []
    for t in range(r.shape[1]):
        new = k[:, t, :, :, None] * v[:, t, :, None, :]
        out.append(torch.einsum("bhk,bhkv->bhv", r[:, t], state + u[None, :, :, None] * new))
        state = log_w[:, t, :, :, None].exp() * state + new
    return torch.stack(out, dim=1), state


def loop7(r: Tensor, log_w: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """The paper's loop over positions, and nothing else."""
    out = []
    for t in range(r.shape[1]):
        held = torch.einsum("bhk,bhkv->bhv", a[:, t], state)
        state = (
            log_w[:, t, :, :, None].exp() * state
            + b[:, t, :, :, None] * held[:, :, None]
            + k[:, t, :, :, None] * v[:, t, :, None, :]
        )
        out.append(torch.einsum("bhk,bhkv->bhv", r[:, t], state))
    return torch.stack(out, dim=1), state


def log_decays(kind: str, shape: tuple[int, ...]) -> Tensor:
    """none: 0; mild, as trained models have; strong; extreme: most beyond -1000; mixed: all of them side by side."""
    noise = torch.randn(shape)
    if kind == "none":
        return torch.zeros(shape)
    if kind == "mild":
        return -torch.exp(noise - 3)
    if kind == "strong":
        return -torch.exp(2 * noise)
    if kind == "extreme":
        return -torch.exp(3 * noise + 7)
    return -torch.exp(torch.where(noise > 1.3, 5 * noise, noise - 5))


def inputs6(kind: str, B: int, T: int, H: int, K: int) -> list[Tensor]:
    r, k, v = torch.randn(3, B, T, H, K)
    return [r, k, v, log_decays(kind, (B, T, H, K)), torch.randn(H, K), torch.randn(B, H, K, K)]


def inputs7(kind: str, B: int, T: int, H: int, K: int) -> list[Tensor]:
    """As the model makes them: a is a unit vector, and b its opposite times a rate between 0 and 1."""
    r, k, v, key = torch.randn(4, B, T, H, K)
    key = torch.nn.functional.normalize(key, dim=-1)
    return [r, log_decays(kind, key.shape), k, v, -key, key * torch.rand_like(key), torch.randn(B, H, K, K)]


VERSIONS = {"6": (inputs6, loop6), "7": (inputs7, loop7)}
