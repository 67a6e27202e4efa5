"""Evaluation: accuracy tables and figures."""
