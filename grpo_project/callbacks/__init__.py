"""Callbacks for any Hugging Face ``Trainer``, under the import paths of existing users.

``WandbSync`` and ``EnhancedInferenceCallback`` can be imported from here; they are loaded when they are asked for, as
they import transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grpo_project.callbacks.enhanced_inference_callback import EnhancedInferenceCallback
    from grpo_project.callbacks.wandb_sync import WandbSync

__all__ = ["EnhancedInferenceCallback", "WandbSync"]

_MODULES = {"EnhancedInferenceCallback": "enhanced_inference_callback", "WandbSync": "wandb_sync"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
