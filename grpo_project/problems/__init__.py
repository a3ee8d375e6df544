"""What to solve: problems, their file formats, and the embedded ones. Imports neither torch nor wandb."""
