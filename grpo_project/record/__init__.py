"""The run directory, append-only: journal, samples, evaluations, run.json. What is written here is the truth.

Imports neither torch nor wandb, and nothing that produces what it keeps.
"""
