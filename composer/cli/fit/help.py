"""The help of `fit`, `validate`, `test` and `predict`, written without loading torch."""

import textwrap
from collections.abc import Iterator

from pydantic import BaseModel

from composer.plugin import SLOTS
from composer.recipe.data import DataConfig
from composer.recipe.explain import type_name
from composer.recipe.trainer import TrainerConfig
from composer.recipe.training import TrainingConfig
from composer.registry import load_registry


def help_text(command: str, summary: str) -> str:
    """The options of a command."""
    registry = load_registry()
    slots = "\n".join(f"  --model.{kind}=NAME".ljust(30) + ", ".join(registry.selectable(kind)) for kind in SLOTS)
    return f"""usage: composer {command} --config RECIPE [--config RECIPE ...] [--SECTION.OPTION=VALUE ...]

{summary}

  -c, --config RECIPE         a YAML file, or composer:NAME (`composer recipes list`); later files override earlier ones
  --ckpt_path PATH            a checkpoint or a run folder; `last`: the newest complete checkpoint of this run
  --trainer.default_root_dir  the run folder; runs/<name of the last recipe> if not given
  --seed_everything=INTEGER   seed of every random generator; 0 if not given
  --print_config              print everything that would be run, and stop
  -h, --help, --help-all      this text; this text and Lightning's help of every option of the Trainer

model (what is installed; `composer plugins show NAME` lists a component's options):
{slots}
  --model.SLOT.OPTION=VALUE   one option of whatever is selected
  --model.prompt.layout=      media-first | sandwich | inline

{_section("training", TrainingConfig)}
{_section("data", DataConfig)}
{_section("trainer", TrainerConfig)}
Environment variables set the same options, such as COMPOSER_DATA__FRAMES=16; flags override them.
"""


def _section(name: str, config: type[BaseModel]) -> str:
    return "\n".join([f"{name}:", *_options(name, config), ""])


def _options(section: str, config: type[BaseModel]) -> Iterator[str]:
    """Each option with its type, its default and its description."""
    for name, field in config.model_fields.items():
        kind = "" if type_name(field.annotation) == "Any" else f" ({type_name(field.annotation)})"
        default = field.get_default(call_default_factory=True)
        stated = "" if default in (None, (), {}) else f" Default: {_shown(default)}"
        text = f"{field.description}{kind}.{stated}".replace("..", ".")
        yield f"  --{section}.{name}="
        yield textwrap.fill(text, 110, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _shown(default: object) -> str:
    return ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)
