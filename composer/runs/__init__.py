"""Several commands as one resumable run: stages, evaluations, sweeps."""
