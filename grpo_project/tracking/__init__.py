"""The projection of the journal to W&B, in processes of its own; ``manager`` is what a trainer talks to.

Only ``delivery`` imports wandb. Nothing here imports torch.
"""
