"""What lmms-eval's entry points find: `lmms-eval --model composer --model_args checkpoint=runs/mine`.

Light, for lmms-eval asks every installed model for its manifest, whichever it runs.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest


def manifest() -> "ModelManifest":
    """The model `composer`, which takes chat messages."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="composer", chat_class_path=f"{__name__}.model.ComposedModel")
