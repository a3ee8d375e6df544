"""Before a model is loaded: can the problems be judged at all, and do their own solutions pass?

For problems whose tests are a simulation: a bench that does not compile, or fails its own reference, would otherwise be
found amid the training. Python's tests are checked as they are read, and ``grpo verify`` runs their solutions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from grpo_project.errors import DataError
from grpo_project.problems.problem import Problem
from grpo_project.verifier.verdict import Job
from grpo_project.verifier.verifier import Verifier

logger = logging.getLogger("grpo_project")
MOST = 5_000
"""Problems that are looked at, evenly over the set. Each takes about a tenth of a CPU second."""
SHOWN = 20


def require_judgeable(verifier: Verifier, problems: Iterable[Problem]) -> None:
    """Raises ``DataError`` that lists problems whose reference fails, ``ConfigError`` where a tool is missing."""
    simulated = [problem for problem in problems if problem.language == "verilog" and problem.source != "builtin"]
    if not simulated:
        return
    step = -(-len(simulated) // MOST)
    looked_at = [problem for problem in simulated[::step] if problem.solution is not None]
    logger.info("checking the references of %d of %d Verilog problems", len(looked_at), len(simulated))
    fence = "~" * 9
    jobs = [Job(problem, f"{fence}verilog\n{problem.solution}\n{fence}\n") for problem in looked_at]
    verdicts = verifier.verify_many(jobs, keep_unusable=True)
    faults = [
        f"  {problem.id}: {verdict.message}"
        for problem, verdict in zip(looked_at, verdicts, strict=True)
        if not verdict.solved
    ]
    if faults:
        source = looked_at[0].source
        more = f"\n  ... and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise DataError(
            f"{source}: {len(faults)} of {len(looked_at)} problems can't be judged, or their own reference fails; "
            "correct them or take them out (`grpo verify` tells more)\n" + "\n".join(faults[:SHOWN]) + more
        )
