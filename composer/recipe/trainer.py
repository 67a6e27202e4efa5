"""The `trainer:` section of a recipe: arguments of Lightning's Trainer, checked without importing it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from composer.recipe.data import Count, Natural

Precision = (
    Literal["64", "32", "16", "bf16", "16-true", "16-mixed", "bf16-true", "bf16-mixed", "32-true", "64-true"]
    | Literal["transformer-engine", "transformer-engine-float16", 64, 32, 16]
)


class TrainerConfig(BaseModel):
    """Arguments of `lightning.pytorch.Trainer` with its defaults. Values of type object are checked by Lightning."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)  # a folder may be called 2

    accelerator: object = Field("auto", description="auto, cpu, gpu ...")
    strategy: object = Field("auto", description="auto, ddp, or a variant of ddp.")
    devices: object = Field("auto", description="Number of devices, or a list of them.")
    num_nodes: Count = Field(1, description="Number of machines.")
    precision: Precision | None = Field(None, description="Precision of weights and operations.")
    logger: object = Field(None, description="Loggers; TensorBoard's and a CSV file if not given.")
    callbacks: object = Field(None, description="Callbacks, each with class_path and init_args.")
    fast_dev_run: bool | Natural = Field(False, description="Run one batch, or N, and write nothing.")
    max_epochs: int | None = Field(None, ge=-1, strict=True, description="Epochs after which training ends.")
    min_epochs: Natural | None = Field(None, description="Epochs before which training does not end.")
    max_steps: int = Field(-1, ge=-1, strict=True, description="Optimizer steps after which training ends; -1: none.")
    min_steps: Natural | None = Field(None, description="Optimizer steps before which training does not end.")
    max_time: object = Field(None, description="Time after which training ends, such as 00:12:00:00 (days first).")
    limit_train_batches: int | float | None = Field(None, ge=0, description="Number or share of training batches.")
    limit_val_batches: int | float | None = Field(None, ge=0, description="Number or share of validation batches.")
    limit_test_batches: int | float | None = Field(None, ge=0, description="Number or share of test batches.")
    limit_predict_batches: int | float | None = Field(None, ge=0, description="Number or share of predict batches.")
    overfit_batches: int | float = Field(0.0, ge=0, description="Number or share of batches to overfit.")
    val_check_interval: object = Field(None, description="Steps, or share of an epoch, between two validations.")
    check_val_every_n_epoch: Count | None = Field(1, description="Epochs between two validations.")
    num_sanity_val_steps: int | None = Field(
        None, ge=-1, strict=True, description="Validation batches before training; -1: all."
    )
    log_every_n_steps: Natural | None = Field(None, description="Steps between two logged values.")
    enable_checkpointing: bool | None = Field(None, description="Whether checkpoints are written.")
    enable_progress_bar: bool | None = Field(None, description="Whether a progress bar is shown.")
    enable_model_summary: bool | None = Field(None, description="Whether Lightning prints the model's layers.")
    accumulate_grad_batches: Count = Field(1, description="Batches whose gradients add up in one optimizer step.")
    gradient_clip_val: int | float | None = Field(None, ge=0, description="Largest gradient.")
    gradient_clip_algorithm: Literal["norm", "value"] | None = Field(None, description="What is clipped.")
    deterministic: bool | Literal["warn"] | None = Field(None, description="Whether operations are deterministic.")
    benchmark: bool | None = Field(None, description="Whether cuDNN searches for the fastest algorithms.")
    inference_mode: bool = Field(True, description="Whether evaluation runs in torch.inference_mode.")
    use_distributed_sampler: bool = Field(True, description="Whether Lightning shards the data.")
    profiler: object = Field(None, description="simple, advanced, pytorch ...")
    detect_anomaly: bool = Field(False, description="Whether autograd searches for anomalies.")
    barebones: bool = Field(False, description="Whether everything that costs time is off.")
    plugins: object = Field(None, description="Plugins of Lightning.")
    sync_batchnorm: bool = Field(False, description="Whether batch norms synchronize.")
    reload_dataloaders_every_n_epochs: Natural = Field(0, description="Epochs after which data is loaded again.")
    default_root_dir: str | None = Field(None, description="The run folder; runs/<name of the recipe> if not given.")
    enable_autolog_hparams: bool = Field(True, description="Whether hyperparameters are logged.")
    model_registry: str | None = Field(None, description="Name in Lightning's model registry.")
