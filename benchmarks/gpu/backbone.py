"""RWKV on a GPU at its real size: the wkv kernels beside attention, then whole models.

    python -m benchmarks.gpu.backbone                                 # 24 x 2048 (1.6 B), bf16, T to 65,536
    python -m benchmarks.gpu.backbone --device cpu --width 64 --depth 1 --lengths 64 --vocab 512   # does it run?

Random weights, one row. Kernels: forward, and forward with backward, of wkv6 and wkv7 (fla's on CUDA) and of causal
scaled_dot_product_attention (FlashAttention-2 on CUDA in bf16), which has the same [1, T, heads, 64] inputs. Models:
prefill, decode, and a training step with activation checkpointing. MFU counts 2 floating-point operations a parameter
and token forward and 6 in training, without the embedding; "wkv" is the share of the kernels, by their own times.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.backbone import Vocabulary
from composer_plugins.rwkv.backbone import RWKV6Backbone, RWKV7Backbone
from composer_plugins.rwkv.kernels import WKV7_LOWER_BOUND
from composer_plugins.rwkv.wkv6 import wkv6
from composer_plugins.rwkv.wkv7 import wkv7

HEAD = 64
DECODED = 64


def seconds(run: Callable[[], Any], repeats: int, device: torch.device) -> float:
    """Wall seconds of one run, the best of some, after two that compile and tune."""

    def once() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return min([once() for _ in range(2 + repeats)][2:])


def operators(heads: int, length: int, device: torch.device) -> dict[str, tuple[Callable[..., Tensor], list[Tensor]]]:
    """Each operator with inputs: [1, T, heads, 64] in bf16 on CUDA."""
    shape, dtype = (1, length, heads, HEAD), torch.bfloat16 if device.type == "cuda" else torch.float32
    r, k, v, key = (torch.randn(shape, device=device, dtype=dtype) for _ in range(4))
    key = torch.nn.functional.normalize(key, dim=-1)
    noise = torch.rand(shape, device=device)
    u = torch.randn(heads, HEAD, device=device)
    return {
        "wkv6": (lambda *x: wkv6(*x, None)[0], [r, k, v, -torch.exp(noise - 3), u]),
        "wkv7": (lambda *x: wkv7(*x, None)[0], [r, WKV7_LOWER_BOUND * noise, k, v, -key, key * noise.to(dtype)]),
        "attention": (
            lambda *x: scaled_dot_product_attention(*(y.transpose(1, 2) for y in x), is_causal=True),
            [r, k, v],
        ),
    }


def kernels(args: argparse.Namespace, device: torch.device) -> dict[tuple[str, int], tuple[float, float]]:
    """Print and return the seconds of each operator and length: forward, and forward with backward."""
    print(f"kernels, [1, T, {args.width // HEAD}, {HEAD}]: ms forward, forward + backward | attention / ours")
    found = {}
    for length in args.lengths:
        for name, (operator, inputs) in operators(args.width // HEAD, length, device).items():

            def both(operator: Any = operator, inputs: Any = inputs) -> None:
                operator(*(x.detach().requires_grad_() for x in inputs)).float().sum().backward()

            def forward(operator: Any = operator, inputs: Any = inputs) -> None:
                with torch.no_grad():
                    operator(*inputs)

            found[name, length] = seconds(forward, args.repeats, device), seconds(both, args.repeats, device)
        attention = found["attention", length]
        for name in ("wkv6", "wkv7", "attention"):
            times = found[name, length]
            ratios = " ".join(f"{a / b:5.2f}" for a, b in zip(attention, times, strict=True))
            print(f"T {length:>6} {name:<10} {times[0] * 1e3:9.3f} {times[1] * 1e3:9.3f} | {ratios}", flush=True)
    return found


def models(args: argparse.Namespace, device: torch.device, kernel: dict[tuple[str, int], tuple[float, float]]) -> None:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    print(f"models, {args.depth} x {args.width}, vocabulary {args.vocab}: tokens/s")
    for version, kind in (("6", RWKV6Backbone), ("7", RWKV7Backbone)):
        made: Any = kind(tokenizer=Vocabulary(args.vocab), width=args.width, depth=args.depth, head_size=HEAD)
        made = made.to(device, dtype)
        weights = sum(p.numel() for p in made.parameters()) - made.model.emb.weight.numel()
        for length in args.lengths:
            ids = torch.randint(0, args.vocab, (1, length), device=device)

            def prefill(made: Any = made, ids: Tensor = ids) -> Any:
                with torch.no_grad():
                    hidden, state = made(made.embed(ids))
                    made.head(hidden[:, -1])
                return state

            taken = seconds(prefill, args.repeats, device)
            share = args.depth * kernel[f"wkv{version}", length][0] / taken
            mfu = 2 * weights * length / taken / args.peak / 1e12
            print(
                f"rwkv{version} prefill T {length:>6} {length / taken:12,.0f}  MFU {mfu:.3f}  wkv {share:.2f}",
                flush=True,
            )
        state, step = prefill(), torch.zeros(1, 1, dtype=torch.long, device=device)

        def decode(made: Any = made, start: Any = state, step: Tensor = step) -> None:
            state = start
            with torch.no_grad():
                for _ in range(DECODED):
                    hidden, state = made(made.embed(step), None, state)
                    made.head(hidden[:, -1])

        print(f"rwkv{version} decode             {DECODED / seconds(decode, args.repeats, device):10,.0f}", flush=True)
        apply_activation_checkpointing(made, check_fn=lambda module, made=made: isinstance(module, made.block_classes))
        made.train()
        for length in args.lengths:
            ids = torch.randint(0, args.vocab, (1, length), device=device)

            def train(made: Any = made, ids: Tensor = ids) -> None:
                made(made.embed(ids))[0].float().square().mean().backward()
                made.zero_grad()

            taken = seconds(train, args.repeats, device)
            share = args.depth * sum(kernel[f"wkv{version}", length]) / taken
            mfu = 6 * weights * length / taken / args.peak / 1e12
            print(
                f"rwkv{version} train   T {length:>6} {length / taken:12,.0f}  MFU {mfu:.3f}  wkv {share:.2f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--depth", type=int, default=24)
    parser.add_argument("--vocab", type=int, default=65536)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096, 16384, 65536])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", type=float, default=790.0, help="TFLOP/s of the device; measured on an H200 in bf16")
    args = parser.parse_args()
    device = torch.device(args.device)
    torch.manual_seed(0)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    print(f"{name}, torch {torch.__version__}")
    models(args, device, kernels(args, device))


if __name__ == "__main__":
    main()
