"""The projection of the journal to W&B, in processes of its own; ``core.wandb_sync_manager`` is its face.

Only ``delivery`` imports wandb. Nothing here imports torch.
"""
