"""Every number that the project owes from a GPU, by one command: `python -m benchmarks.gpu` (docs/performance.md)."""
