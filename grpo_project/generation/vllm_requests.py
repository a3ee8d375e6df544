"""Requests to a colocated vLLM engine: a seed each, outputs as they end, a stop at the next token.

TRL 1.16 seeds the engine once, by the rank: another ``--seed`` gives the same completions, and a resume begins the
stream anew. It also waits for the whole batch (trl/generation/vllm_generation.py:289 and 730). Here each request draws
from its completion's own key, as in our own sampler: a run that was resumed draws what it would have drawn, wherever
vLLM's arithmetic repeats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

SEED_BITS = 62
"""vLLM takes a seed as a signed integer of 64 bits."""


def generate(
    llm: Any,
    prompts: Sequence[Any],
    sampling_params: Any,
    keys: Sequence[int],
    on_end: Callable[[int, list[int]], None],
    check_stop: Callable[[], None],
) -> list[Any]:
    """``LLM.generate`` for B prompts, one completion each: its ``RequestOutput`` objects, in order.

    Args:
        keys: of the B completions (``uniforms.completion_key``).
        on_end: called as ``(row, ids)`` when a completion has its end token, while others go on.
        check_stop: called after each token; what it raises ends all requests.
    """
    engine = llm.llm_engine
    params = []
    for key in keys:
        own = sampling_params.clone()
        own.seed = key % 2**SEED_BITS
        params.append(own)
    requests = llm.enqueue(list(prompts), params, use_tqdm=False)
    # The engine may add to a request's name; it counts them in the order in which they came.
    rows = {request.split("-")[0]: row for row, request in enumerate(requests)}
    found: dict[int, Any] = {}
    try:
        while engine.has_unfinished_requests():
            for output in engine.step():
                if not output.finished:
                    continue
                row = rows[output.request_id.split("-")[0]]
                found[row] = output
                if output.outputs[0].finish_reason == "stop":
                    on_end(row, list(output.outputs[0].token_ids))
            check_stop()
    except BaseException:  # a stop, too: what is raised goes on, the engine keeps no request of a batch that is left
        engine.abort_request([name for row, name in enumerate(requests) if row not in found], internal=True)
        raise
    return [found[row] for row in range(len(prompts))]
