"""How an answer is judged: extract the code, run it in a cage, compare outside of it.

Imports neither torch nor wandb.
"""

from grpo_project.verifier.languages import extract_code
from grpo_project.verifier.verdict import Job, Status, TestResult, Verdict
from grpo_project.verifier.verifier import Verifier

__all__ = ["Job", "Status", "TestResult", "Verdict", "Verifier", "extract_code"]
