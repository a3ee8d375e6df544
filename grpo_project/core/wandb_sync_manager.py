"""``grpo_project.core.wandb_sync_manager``: the names that existing scripts import. The code is in ``tracking``."""

from grpo_project.tracking.manager import (
    WandBSyncManager,
    get_wandb_sync_manager,
    initialize_wandb_sync_manager,
    safe_wandb_log,
)

__all__ = ["WandBSyncManager", "get_wandb_sync_manager", "initialize_wandb_sync_manager", "safe_wandb_log"]
