"""Rewards: verdicts to numbers, as functions that TRL's trainers take (``reward_funcs=[rewards.pass_rate]``).

``verdicts`` holds the formulas, ``function`` how they are called, ``choice`` what ``--reward`` understands. Imports no
torch; TRL's own rewards are imported when one of them is asked for.
"""

from grpo_project.rewards.function import VerdictReward, all_or_nothing, mixed, pass_rate, stepwise, weighted

__all__ = ["VerdictReward", "all_or_nothing", "mixed", "pass_rate", "stepwise", "weighted"]
