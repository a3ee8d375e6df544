"""How an answer is judged: extract the code, run it in a cage, compare outside of it. Imports neither torch nor wandb."""
