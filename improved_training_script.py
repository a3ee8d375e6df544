"""The training command under the name that existing users run: the same program as ``grpo train``."""

import importlib.util
import sys

if missing := [name for name in ("torch", "trl", "wandb") if importlib.util.find_spec(name) is None]:
    sys.exit(
        f"improved_training_script.py: {sys.executable} has no {' and no '.join(missing)}; use the Python that this "
        "project is installed in (.venv/bin/python after `make train`), or pip install -e . -c constraints.txt"
    )

from grpo_project.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
