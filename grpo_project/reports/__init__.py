"""Tables, pictures and pages made from a run directory. Imports neither torch nor wandb."""
