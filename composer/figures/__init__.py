"""Figures of runs, sweeps and merges; the only package that imports matplotlib."""
