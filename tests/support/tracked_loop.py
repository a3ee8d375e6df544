"""A training loop without a model: checkpoints, metrics that follow from the step, resume. Killed by the tests.

python tracked_loop.py OUTPUT_DIR STEPS --policy same --pace '{"confirm_s": 1}'
"""

import argparse
import json
import sys
import time
from pathlib import Path

from grpo_project.tracking.manager import initialize_wandb_sync_manager, safe_wandb_log
from grpo_project.tracking.settings import Pace

EVAL_EVERY = 10


def expected_row(step: int) -> dict[str, float]:
    """What W&B must show for a step."""
    row = {"loss": 1 / step, "reward": step % 7 * 0.125, "_trainer_step": step}
    if step % EVAL_EVERY == 0:
        row["eval_avg_test_pass_rate"] = step / 1000
    return row


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("--policy", default="new")
    parser.add_argument("--pace", type=json.loads, default={})
    parser.add_argument("--step-s", type=float, default=0.02)
    parser.add_argument("--save-every", type=int, default=20)
    parser.add_argument("--timeout-s", type=float, default=60)
    parser.add_argument("--report-to", nargs="*", default=[])
    arguments = parser.parse_args()
    checkpoint = arguments.output_dir / "step.txt"
    start = int(checkpoint.read_text()) if checkpoint.exists() else 0
    manager = initialize_wandb_sync_manager(
        *(arguments.output_dir, "torture", "loop"),
        resume=arguments.policy,
        resume_step=start,
        report_to=arguments.report_to,
        pace=Pace(**arguments.pace),
    )
    for step in range(start + 1, arguments.steps + 1):
        row = expected_row(step)
        safe_wandb_log({"loss": row["loss"], "reward": row["reward"]}, step)
        if step % EVAL_EVERY == 0:
            safe_wandb_log({"eval_avg_test_pass_rate": row["eval_avg_test_pass_rate"]}, step)
        if step % arguments.save_every == 0:
            staged = checkpoint.with_suffix(".new")
            staged.write_text(str(step))
            staged.replace(checkpoint)
        print(step, flush=True)
        time.sleep(arguments.step_s)
    assert "wandb" not in sys.modules
    print(json.dumps(manager.finish(timeout_s=arguments.timeout_s)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
