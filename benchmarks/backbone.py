"""RWKV on the CPU compared with its author's `rwkv` package and a Llama of transformers of the same size.

    python -m benchmarks.backbone                        # about 15 minutes, with all cores
    OMP_NUM_THREADS=1 python -m benchmarks.backbone      # with one core
    python -m benchmarks.backbone --sizes 64x2 --lengths 64 --contexts 64 --vocab 512 --repeats 1

Random weights, fp32, one row. Times are wall-clock seconds, so nothing else should run at the same time; each is the
best of several rounds in which all models take turns. "forward" computes the logits of the last position; training is
forward and backward of the hidden states, without the head, which is the same in all models. Memory is the peak growth
of the resident set, with one process per measurement.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

from composer_plugins.rwkv import wkv6, wkv7
from composer_plugins.rwkv.backbone import RWKV6Backbone, RWKV7Backbone
from tests.plugins.rwkv.author import authors

PIECE = 512
DECODED = 16


class Vocabulary:
    """Replacement for a tokenizer; only the number of ids matters here."""

    end_id = 0

    def __init__(self, size: int) -> None:
        self.vocab_size = size


class Ours:
    """A backbone of composer."""

    def __init__(self, version: str, width: int, depth: int, vocab: int, **options: Any) -> None:
        kind = {"6": RWKV6Backbone, "7": RWKV7Backbone}[version]
        self.model = kind(tokenizer=Vocabulary(vocab), width=width, depth=depth, head_size=64, **options)

    def read(self, ids: Tensor, state: Any = None) -> Any:
        if self.model.training:
            self.model.eval()
        with torch.no_grad():
            hidden, state = self.model(self.model.embed(ids), None, state)
            self.model.head(hidden[:, -1])
        return state

    def train(self, ids: Tensor) -> None:
        self.model.train()
        self.model(self.model.embed(ids))[0].square().mean().backward()
        self.model.zero_grad()

    def after(self, context: int) -> Any:
        return self.read(torch.zeros(1, min(context, 2 * PIECE), dtype=torch.long))


class Author:
    """The author's `rwkv` package with the weights of a backbone of composer; inference only."""

    def __init__(self, ours: Ours, folder: str) -> None:
        self.model = authors(ours.model.train(), Path(folder, f"{ours.model.version}.pth"), scripted=True)

    def read(self, ids: Tensor, state: Any = None) -> Any:
        return self.model.forward(ids[0].tolist(), state)[1]

    def after(self, context: int) -> Any:
        return self.read(torch.zeros(1, min(context, 2 * PIECE), dtype=torch.long))


class Llama:
    """A Llama of transformers."""

    def __init__(self, width: int, depth: int, vocab: int) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=vocab,
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=width // 64,
            intermediate_size=int(3.5 * width),
            max_position_embeddings=2**17,
            attn_implementation="sdpa",
        )
        self.model: Any = LlamaForCausalLM(config)

    def read(self, ids: Tensor, state: Any = None) -> Any:
        if self.model.training:
            self.model.eval()
        with torch.no_grad():
            out = self.model.model(input_ids=ids, past_key_values=state, use_cache=True)
            self.model.lm_head(out.last_hidden_state[:, -1])
        return out.past_key_values

    def train(self, ids: Tensor) -> None:
        self.model.train()
        self.model.model(input_ids=ids, use_cache=False).last_hidden_state.square().mean().backward()
        self.model.zero_grad()

    def after(self, context: int) -> Any:
        """Create a cache with random keys and values; the time only depends on its length."""
        from transformers import DynamicCache

        config = self.model.config
        cache = DynamicCache(config=config)
        for layer in range(config.num_hidden_layers):
            keys, values = torch.randn(2, 1, config.num_attention_heads, context, 64)
            cache.update(keys, values, layer)
        return cache


def train_with_loops(train: Callable[[Tensor], None], ids: Tensor) -> None:
    """Train with the wkv operators as loops over positions."""

    def loop(module: Any) -> Callable[..., Any]:
        def run(*inputs: Any) -> Any:
            *timed, state = inputs[:7]  # wkv7 has a bound of decays after the state
            fixed = [] if module is wkv7 else [timed.pop()]
            outs = []
            for t in range(timed[0].shape[1]):
                out, state = module._step(*(x[:, t : t + 1] for x in timed), *fixed, state)
                outs.append(out)
            return torch.cat(outs, dim=1), state

        return run

    originals = wkv6._chunks, wkv7._chunks
    wkv6._chunks, wkv7._chunks = loop(wkv6), loop(wkv7)
    try:
        train(ids)
    finally:
        wkv6._chunks, wkv7._chunks = originals


def best(tasks: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Measure the seconds of each task: the best of several rounds in which they take turns, after a warm-up round."""
    times: dict[str, float] = {}
    for round_ in range(repeats + 1):
        for name, task in tasks.items():
            gc.collect()
            start = time.perf_counter()
            task()
            if round_:
                times[name] = min(times.get(name, float("inf")), time.perf_counter() - start)
    return times


def rates(what: str, tokens: int, seconds: dict[str, float], base: str | None = None) -> None:
    """Print a row: tokens per second of each model, and the speed of ours relative to the author's and `base`."""
    cells = [f"{name} {tokens / value:,.0f}" for name, value in seconds.items()]
    pairs = [(name, f"author{name[-1]}") for name in ("rwkv6", "rwkv7")]
    ratios = [f"{a}/{b} {seconds[b] / seconds[a]:.2f}" for a, b in pairs if a in seconds and b in seconds]
    ratios += [f"{a}/{base} {seconds[base] / seconds[a]:.2f}" for a in seconds if base and a.startswith("rwkv")]
    print(f"{what:<24} {'  '.join(cells)}   | {'  '.join(ratios)}", flush=True)


def speed(width: int, depth: int, args: argparse.Namespace) -> None:
    """Print the speed of all models of one size."""
    threads = torch.get_num_threads()
    print(f"\n{width} x {depth}, vocabulary {args.vocab}, {threads} threads: tokens per second", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        ours = {f"rwkv{version}": Ours(version, width, depth, args.vocab) for version in "67"}
        readers: dict[str, Any] = {}
        for name, peer in ours.items():
            readers |= {name: peer, f"author{name[-1]}": Author(peer, folder)}
        readers["llama"] = llama = Llama(width, depth, args.vocab)
    for length in args.lengths:
        ids = torch.randint(0, args.vocab, (1, length))
        tasks = {name: lambda peer=peer, ids=ids: peer.read(ids) for name, peer in readers.items()}
        rates(f"forward {length}", length, best(tasks, args.repeats), "llama")
    for length in args.lengths:
        ids = torch.randint(0, args.vocab, (1, length))
        tasks = {name: lambda peer=peer, ids=ids: peer.train(ids) for name, peer in {**ours, "llama": llama}.items()}
        rates(f"forward + backward {length}", length, best(tasks, args.repeats), "llama")
    ids = torch.randint(0, args.vocab, (1, min(2048, args.lengths[-1])))
    for name, peer in ours.items():
        tasks = {name: lambda: peer.train(ids), "loop": lambda: train_with_loops(peer.train, ids)}  # noqa: B023
        rates(f"{name} against its loop", ids.shape[1], best(tasks, 1), "loop")

    def pieces(peer: Any) -> None:
        state = None
        for piece in ids.split(PIECE, dim=1):
            state = peer.read(piece, state)

    tasks = {name: lambda peer=peer: pieces(peer) for name, peer in readers.items()}
    rates(f"prefill by {PIECE}", ids.shape[1], best(tasks, args.repeats), "llama")
    step = torch.tensor([[1]])
    for context in args.contexts:

        def decode(peer: Any, start: Any) -> None:
            state = start
            for _ in range(DECODED):
                state = peer.read(step, state)

        starts = {name: peer.after(context) for name, peer in readers.items()}
        tasks = {name: lambda p=peer, n=name: decode(p, starts[n]) for name, peer in readers.items()}  # noqa: B023
        rates(f"decode after {context}", DECODED, best(tasks, 4 * args.repeats), "llama")
    compiled = {f"rwkv{v}": Ours(v, width, depth, args.vocab, compile_decoding=True) for v in "67"}
    compiled |= {name: peer for name, peer in readers.items() if name.startswith("author")}
    starts = {name: peer.after(64) for name, peer in compiled.items()}
    tasks = {name: lambda p=peer, n=name: decode(p, starts[n]) for name, peer in compiled.items()}
    rates("decode, compiled step", DECODED, best(tasks, 4 * args.repeats))


def memory(width: int, depth: int, args: argparse.Namespace) -> None:
    """Print the memory of all models of one size."""
    length, long = args.lengths[-1], 4 * args.lengths[-1]
    print(f"\n{width} x {depth}: peak growth of memory, MB", flush=True)
    for what, peer, positions in (
        ("prefill", "rwkv6", length),
        ("prefill", "rwkv6", long),
        ("prefill", "rwkv7", length),
        ("prefill", "rwkv7", long),
        ("train", "rwkv6", length),
        ("train", "rwkv7", length),
        ("train", "llama", length),
        ("train, checkpointed", "rwkv6", length),
        ("train, checkpointed", "rwkv7", length),
        ("train, checkpointed", "llama", length),
    ):
        task = json.dumps([what, peer, positions, width, depth, args.vocab])
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.backbone", "--memory-of", task]
        # Without this the allocator keeps freed memory, and the peak includes fragmentation.
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
        process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        print(f"{what:<24} {peer} {positions:>7,}: {float(process.stdout.splitlines()[-1]):8.0f}", flush=True)


def memory_of(what: str, peer: str, positions: int, width: int, depth: int, vocab: int) -> None:
    """Print the peak growth of the resident set, in MB, during one task of one model."""
    checkpointed = what.endswith("checkpointed")
    options = {"segment_length": 512} if checkpointed else {}
    candidate: Any = Llama(width, depth, vocab) if peer == "llama" else Ours(peer[-1], width, depth, vocab, **options)
    if checkpointed and peer == "llama":
        candidate.model.gradient_checkpointing_enable({"use_reentrant": False})
    elif checkpointed:
        apply_activation_checkpointing(
            candidate.model, check_fn=lambda module: isinstance(module, candidate.model.block_classes)
        )
    ids = torch.randint(0, vocab, (1, positions))
    run = candidate.read if what == "prefill" else candidate.train
    run(ids[:, :64])  # exclude memory that is allocated once, at the first use
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = resident("VmRSS")
    if what == "prefill":
        state = None
        for piece in ids.split(PIECE, dim=1):
            state = candidate.read(piece, state)
    else:
        candidate.train(ids)
    print((resident("VmHWM") - before) / 1e3)


def resident(field: str) -> int:
    """Read a field of /proc/self/status, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["256x4", "512x8"], help="WIDTHxDEPTH, heads of 64")
    parser.add_argument("--lengths", nargs="+", type=int, default=[512, 2048, 8192])
    parser.add_argument("--contexts", nargs="+", type=int, default=[64, 4096, 32768])
    parser.add_argument("--vocab", type=int, default=65536)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=("speed", "memory"), help="print one half of the table")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.manual_seed(0)
    if args.memory_of:
        memory_of(*json.loads(args.memory_of))
        return
    for size in args.sizes:
        width, depth = map(int, size.split("x"))
        if args.only != "memory":
            speed(width, depth, args)
        if args.only != "speed":
            memory(width, depth, args)


if __name__ == "__main__":
    main()
