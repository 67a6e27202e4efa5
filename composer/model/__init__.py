"""The composed model: built from its parts, its forward pass and its checkpoints."""
