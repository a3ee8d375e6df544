"""The weights of a model with LoRA adapters as another engine needs them: merged, while the model stays as it is.

TRL 1.16 merges the adapter into the base weights in place before each sync to vLLM and subtracts it afterwards
(trl/generation/vllm_generation.py:448, TRL issue 6688). In bfloat16 that does not give the base back: it drifts with
each sync, and a checkpoint, which holds the adapter alone, is not the model that was trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

BASE = ".base_layer"


def merged_parameters(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Each parameter under its name in the base model, with its adapter merged into a copy.

    One layer at a time: the copy lives until the next name is asked for. Not for sharded weights.
    """
    modules = dict(model.named_modules())
    for path, _ in list(model.named_parameters()):
        if model.prefix in path or "original_module" in path:  # the adapter itself; what modules_to_save has replaced
            continue
        module, _, name = path.rpartition(".")
        layers = []
        while module.endswith(BASE):
            module = module.removesuffix(BASE)
            layers.append(modules[module])
        with ExitStack() as stack:
            for layer in layers:
                stack.enter_context(merged(layer))
            holder = layers[0].get_base_layer() if layers else modules[module]
            yield base_name(path), getattr(holder, name).data


def base_name(path: str) -> str:
    """A parameter's name without what PEFT and checkpointing add, as vLLM knows it (TRL 1.16 does the same)."""
    name = path.removeprefix("base_model.model.").replace(BASE, "")
    return name.replace("_checkpoint_wrapped_module.", "").replace("modules_to_save.default.", "")


@contextmanager
def merged(layer: BaseTunerLayer) -> Iterator[None]:
    """The layer with its adapter merged; at the end it holds its very own weights again, bit for bit."""
    base = layer.get_base_layer()
    own = {name: (parameter, parameter.data) for name, parameter in base.named_parameters(recurse=False)}
    for parameter, data in own.values():
        parameter.data = data.clone()
    # Not `safe_merge`, which rounds the adapter's product to bfloat16 before it is added.
    layer.merge()
    try:
        yield
    finally:
        layer.merged_adapters.clear()
        for name, (parameter, data) in own.items():
            parameter.data = data
            setattr(base, name, parameter)


def sync_merged_copies(vllm_generation: Any) -> None:
    """Have TRL's sync to vLLM read merged copies in place of weights that it merges and unmerges."""
    vllm_generation._iter_named_params = lambda: merged_parameters(vllm_generation.model)
