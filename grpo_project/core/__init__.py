"""The import path of existing users, ``grpo_project.core.wandb_sync_manager``. Nothing else lives here."""
