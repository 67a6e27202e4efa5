"""The help of `fit`, `validate`, `test` and `predict`, written without loading torch."""

from composer.plugin import SLOTS
from composer.recipe.explain import type_name
from composer.recipe.training import TrainingConfig
from composer.registry import load_registry

DATA_OPTIONS = (
    "train",
    "order",
    "validation",
    "test",
    "predict",
    "sources",
    "root",
    "media_root",
    "expected_samples",
    "frames",
    "batch_size",
    "global_batch_size",
    "max_tokens",
    "eval_batch_size",
    "num_workers",
    "seed",
    "max_bad_samples",
    "too_long",
    "conditions",
)


def help_text(command: str, summary: str) -> str:
    """What a command takes, apart from the Trainer's many options."""
    registry = load_registry()
    slots = "\n".join(f"  --model.{kind}=NAME".ljust(30) + ", ".join(registry.selectable(kind)) for kind in SLOTS)
    training = "\n".join(
        f"  --training.{name}=".ljust(42) + f"{type_name(field.annotation)}. {field.description}"
        for name, field in TrainingConfig.model_fields.items()
    )
    return f"""usage: composer {command} --config RECIPE [--config RECIPE ...] [--SECTION.OPTION=VALUE ...]

{summary}

  -c, --config RECIPE         a YAML file; several are merged, the last one strongest
  --ckpt_path PATH            a checkpoint or a run folder; `last`: the newest whole checkpoint of this run
  --trainer.default_root_dir  the run folder; runs/<name of the last recipe> if not given
  --seed_everything=INTEGER   seed of every random generator; 0 if not given
  --print_config              print everything that would be run, and stop
  -h, --help, --help-all      this text; this text and every option of the data module and the Trainer

model (what is installed; `composer plugins show NAME` lists a component's options):
{slots}
  --model.SLOT.OPTION=VALUE   one option of whatever is selected
  --model.prompt.layout=      media-first | sandwich | inline

training:
{training}

data:
  --data.OPTION=VALUE         {", ".join(DATA_OPTIONS[:8])},
                              {", ".join(DATA_OPTIONS[8:])}

trainer:
  --trainer.OPTION=VALUE      max_steps, accelerator, devices, precision, val_check_interval, ... (--help-all)
"""
