"""Which problem comes next, and when to advance. Imports neither torch nor wandb."""
