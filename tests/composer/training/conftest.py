from tests.composer.training.tiny import only_tiny_components

__all__ = ["only_tiny_components"]
