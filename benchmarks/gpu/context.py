"""Context of a part: device, sizes, remaining time and recording of figures. Does not import torch."""

import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.record import Recorder, gpu_and_driver, read_figures

if TYPE_CHECKING:
    import torch


class Context:
    """Context of one run of a part. tiny: whether to use toy sizes. `add` records a figure (`Recorder.add`)."""

    def __init__(self, recorder: Recorder, output: Path, tiny: bool, seconds: float) -> None:
        self.output, self.tiny = output, tiny
        self.folder = output / "work" / recorder.part
        """Folder for the part's files: checkpoints, profiles."""
        self.add = recorder.add
        self.late = False
        """Whether a figure was skipped for lack of time."""
        self.failed = False
        self._ends = time.monotonic() + seconds
        self._recorder = recorder
        self._measured = {figure["name"] for figure in read_figures(recorder.path) if figure["value"] is not None}

    @property
    def on_gpu(self) -> bool:
        return self._recorder.device == "cuda"

    @property
    def device(self) -> "torch.device":
        import torch

        return torch.device(self._recorder.device)

    def left(self) -> float:
        """Return the seconds until this part is killed."""
        return self._ends - time.monotonic()

    def wants(self, name: str, seconds: float = 0) -> bool:
        """Return whether to measure a figure. If fewer than `seconds` are left, the reason is recorded."""
        if name in self._measured:
            return False
        if self.left() >= seconds or self.tiny:
            return True
        self.late = True
        self.missing(name, f"skipped: needs about {seconds:.0f} s, {self.left():.0f} s were left")
        return False

    def missing(self, name: str, reason: str) -> None:
        """Record why a figure is missing."""
        self.add(name, None, note=reason)

    def attempt(self, name: str, measure: Callable[[], Any]) -> None:
        """Run `measure`. If it fails, the error is recorded under `name`, and later figures are still measured.

        The part then counts as failed, except if the device ran out of memory, which is a result too.
        """
        try:
            measure()
        except Exception as error:
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            self.missing(name, f"failed: {reason[:200]}")
            self.failed |= not is_out_of_memory(error)

    def ceiling(self, name: str) -> float:
        """Return a figure of the part `ceilings` on this GPU; it is measured if that part has not run."""
        gpu = gpu_and_driver()[0] if self.on_gpu else None
        for figure in read_figures(self.output / "figures" / "ceilings.jsonl"):
            if figure["name"] == name and figure["gpu"] == gpu and figure["value"] is not None:
                return float(figure["value"])
        from benchmarks.gpu.parts import ceilings

        return ceilings.MEASURES[name](self)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the device ran out of memory."""
    import torch

    return isinstance(error, torch.OutOfMemoryError)
