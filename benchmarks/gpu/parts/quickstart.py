"""Complete training of the quickstart on this device in two precisions: seconds, and accuracy compared with a CPU."""

import json
import re
import shutil
import time

from benchmarks.gpu.composer_runs import QUICKSTART, carry_out, data, flags
from benchmarks.gpu.context import Context

PRECISIONS = ("32-true", "bf16-mixed")
CONDITIONS = ("blind", "shuffled")


def run(context: Context) -> None:
    small = ("--train=4", "--stills=4", "--heldout=1") if context.tiny else ()
    data(context, context.folder, *small)
    accuracy, on_cpu = _on_cpu()
    for precision in PRECISIONS:
        name = f"{precision}: accuracy"
        if not context.wants(name, 80):
            continue
        folder = context.folder / precision
        shutil.rmtree(folder, ignore_errors=True)  # from a killed attempt; the seconds must be those of a complete run
        options = flags(context, context.folder, folder, precision)
        short = ["--trainer.max_steps=2", "--data.batch_size=4", "--data.conditions=[normal]"] if context.tiny else []
        start = time.perf_counter()
        carry_out("fit", *options, *short)
        taken = time.perf_counter() - start
        context.add(
            f"{precision}: fit", taken, "s", note=f"imports not counted; the recipe's run on a CPU took {on_cpu}"
        )
        carry_out("test", *options, *short, "--ckpt_path=last")
        overall = json.loads((folder / "results.json").read_text(encoding="utf-8"))["overall"]
        note = f"limit is the CPU's accuracy, from the recipe; chance {overall['chance']:.3f}"
        context.add(name, overall["normal"], limit=accuracy, note=note)
        for condition in CONDITIONS:
            if condition in overall:
                context.add(f"{precision}: accuracy, {condition}", overall[condition])


def _on_cpu() -> tuple[float | None, str]:
    """Accuracy and time of `fit` on a CPU, from the recipe's header; None and "?" if it has none."""
    text = QUICKSTART.read_text(encoding="utf-8")
    accuracy, taken = re.search(r"# Score\s+([\d.]+) overall", text), re.search(r"# How long\s+(.+) for `fit`", text)
    return float(accuracy[1]) if accuracy else None, taken[1] if taken else "?"
