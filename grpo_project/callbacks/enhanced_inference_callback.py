"""The callback that existing scripts import. The code is in ``evaluation``."""

from grpo_project.evaluation.callback import EnhancedInferenceCallback

__all__ = ["EnhancedInferenceCallback"]
