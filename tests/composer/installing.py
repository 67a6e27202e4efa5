"""Distributions that offer plugins, written to a folder the way an installer writes them."""

from pathlib import Path

PARTS = """
from typing import Literal
from pydantic import Field, model_validator
from composer.plugin import Component, ComponentConfig, hookimpl

class Merge(ComponentConfig):
    ratio: float = Field(0.5, gt=0, le=1, description="Share to keep.")
    order: Literal["ascending", "descending"] = Field("ascending", description="Order of tokens.")

class Pool(ComponentConfig):
    window: int = Field(2, ge=1, description="Side of a window.")

class Language(ComponentConfig):
    width: int = Field(description="Channels.")
    pretrained: str | None = Field(None, description="Weights.")
    extra: dict[str, int] = Field({}, description="More options.")
    widths: tuple[int, ...] = Field((), description="Widths of layers.")

    @model_validator(mode="after")
    def even(self):
        if self.width % 2:
            raise ValueError(f"width must be even and is {self.width}")
        return self

@hookimpl
def composer_components():
    yield Component("encoder", "plain", "Hosts nothing.", ComponentConfig, "stand_in_parts:Built")
    yield Component("encoder", "host", "Hosts reducers.", ComponentConfig, "stand_in_parts:Built", in_blocks=True)
    yield Component("reducer", "merge", "Merges in blocks.", Merge, "stand_in_parts:Built", in_blocks=True)
    yield Component("reducer", "pool", "Pools.", Pool, "stand_in_parts:Built")
    yield Component("projector", "matrix", "One matrix.", ComponentConfig, "stand_in_parts:Built")
    yield Component("backbone", "river", "Recurrent.", Language, "stand_in_parts:Built")
    yield Component("backbone", "tower", "Attention.", Language, "stand_in_parts:Built")
    yield Component("backbone", "lonely", "Needs more.", ComponentConfig, "stand_in_parts:Built",
                    requires=("absent-thing>=2", "pydantic>=2", "pluggy>=99", "other; python_version < '3'"))

class Built:
    def __init__(self, **options):
        self.options = options
"""
"""A plugin with parts for every slot, as the distribution `stand-in-parts`."""


def install(folder: Path, distribution: str, source: str, *, version: str = "1.0", entry_point: str = "main") -> None:
    """Put a distribution with one module, of its own name, into a folder of `sys.path`."""
    module = distribution.replace("-", "_")
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[composer.plugins]\n{entry_point} = {module}\n")


def plugin(body: str, head: str = "") -> str:
    """The source of a plugin whose hook has this body."""
    lines = ["from composer.plugin import Component, ComponentConfig, hookimpl", head]
    return "\n".join([*lines, "@hookimpl", "def composer_components():", f"    {body}", ""])
