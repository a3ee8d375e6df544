"""The training command under the name that existing users run: the same program as ``grpo train``."""

import sys

from grpo_project.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
