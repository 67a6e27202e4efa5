"""The help of `fit`, `validate`, `test` and `predict`, written without loading torch."""

import textwrap

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

training:
{_options("training", TrainingConfig)}

data:
{_options("data", DataConfig)}

trainer (--help-all describes them):
{_wrapped(f"--trainer.OPTION=VALUE, one of {', '.join(TrainerConfig.model_fields)}", 2)}

Environment variables set the same options, such as COMPOSER_DATA__FRAMES=16; flags override them.
"""


def _options(section: str, config: type[BaseModel]) -> str:
    """Each option with its type, its default and its description."""
    lines = []
    for name, field in config.model_fields.items():
        default = field.get_default(call_default_factory=True)
        stated = "" if default in (None, (), {}) else f", default: {_shown(default)}"
        lines.append(f"  {f'--{section}.{name}=':<37}{type_name(field.annotation)}{stated}")
        lines.append(_wrapped(field.description or "", 6))
    return "\n".join(lines)


def _wrapped(text: str, indent: int) -> str:
    return textwrap.fill(text, 110, initial_indent=" " * indent, subsequent_indent=" " * indent)


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)
