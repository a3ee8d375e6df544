"""How an answer is judged: extract the code, run it caged, compare outside. Imports neither torch nor wandb."""
