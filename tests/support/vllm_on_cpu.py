"""``grpo`` with vLLM on a CPU: ``vllm_on_cpu.py train --use_vllm true --vllm_mode colocate ...``.

On a CPU vLLM 0.31 packs the weights of linear layers anew when it loads them and throws the originals away
(``dispatch_cpu_unquantized_gemm``), so that no new weights can be loaded. Here it leaves them as they are.
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import torch
from vllm.model_executor.layers import utils

repack = utils.dispatch_cpu_unquantized_gemm


def keep_weights(layer: Any, *args: Any, **kwargs: Any) -> None:
    if layer.weight.dim() == 2:
        layer.cpu_linear = torch.nn.functional.linear
    else:
        repack(layer, *args, **kwargs)


utils.dispatch_cpu_unquantized_gemm = keep_weights

if __name__ == "__main__":
    from vllm.model_executor.layers import linear

    if hasattr(linear, "dispatch_cpu_unquantized_gemm"):
        linear.dispatch_cpu_unquantized_gemm = keep_weights
    from grpo_project.cli import main

    sys.exit(main())
