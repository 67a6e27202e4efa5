"""Entry point for lmms-eval: `lmms-eval --model composer --model_args checkpoint=runs/mine`.

Light, because lmms-eval reads the manifests of all installed models.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest


def manifest() -> "ModelManifest":
    """The model `composer`, which takes chat messages."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="composer", chat_class_path=f"{__name__}.model.ComposedModel")
