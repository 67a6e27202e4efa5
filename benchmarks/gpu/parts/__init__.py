"""Parts in order of importance, with limits for a GPU; all of them need two runs of the command. No torch here."""

from benchmarks.gpu.runner import Part


def _part(name: str, title: str, seconds: float, least: float) -> Part:
    return Part(name, title, f"{__name__}.{name}", seconds, least)


PARTS = (
    _part("ceilings", "limits of this GPU, and imports of all packages", 60, 20),
    _part("numerics", "wkv kernels against the fp64 recurrence; tests marked gpu", 150, 30),
    _part("train", "one training step of each AuroraLong stage", 150, 45),
    _part("inference", "prefill of 48 to 16,384 frames, decoding", 110, 45),
    _part("peers", "transformers at the same frames", 90, 40),
    _part("quickstart", "the quickstart trained to its end", 300, 90),
    _part("resume", "killed with SIGKILL and resumed", 120, 60),
    _part("profile", "the largest operators of each step and of the prefill", 100, 45),
    _part("compile", "torch.compile per block and ToMe, on and off", 120, 45),
    _part("kernels", "wkv kernels next to attention", 60, 20),
)
