#!/usr/bin/env python3
"""Self-check: do steps stay in sync with W&B across an interruption, on this machine, with these settings?

    python test_wandb_sync.py               with your W&B settings (makes a small run in the project grpo-self-check)
    python test_wandb_sync.py --loopback    with a stand-in server on this machine, nothing leaves it

It runs a short loop, kills it with SIGKILL, resumes it from its checkpoint, reads the history back from the server and
says which steps it expected, sent and found.
"""

import sys
from pathlib import Path
from typing import Any

from grpo_project.tracking.self_check import main


def loopback_server() -> Any:
    """The stand-in server of our own tests."""
    sys.path.insert(0, str(Path(__file__).resolve().parent / "tests" / "support"))
    from loopback import LoopbackServer

    return LoopbackServer()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], loopback_server))
