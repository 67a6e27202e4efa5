"""Training with Lightning: what each stage trains, the optimizer, the finite-loss guard and checkpoints."""
