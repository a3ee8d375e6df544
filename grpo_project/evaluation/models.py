"""A model and its tokenizer, ready to be evaluated on this machine."""

from __future__ import annotations

from typing import Any

from grpo_project.errors import ConfigError


def load_model(name: str, dtype: str = "auto") -> tuple[Any, Any]:
    """Model and tokenizer. ``auto`` is the model's own type on an accelerator and float32 on a CPU."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    if dtype == "auto" and device is not None and device.type == "cpu":
        dtype = "float32"
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
    except (OSError, ValueError) as error:
        first_line = str(error).strip().split("\n")[0]
        raise ConfigError(f"--model {name} can't be loaded: {first_line}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(device), tokenizer
