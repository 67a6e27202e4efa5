"""Recipes: read, merged and validated before torch is imported."""
