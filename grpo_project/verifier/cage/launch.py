"""How the verifier's own processes are started: a bare interpreter that loads these few modules and nothing else.

``grpo_project/__init__`` and ``verifier/__init__`` are not executed there: two empty packages with the same names stand
in, so that a zygote stays at a few megabytes and starts in tens of milliseconds.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_BOOTSTRAP = """\
import sys, types
for name, path in (("grpo_project", sys.argv[1]), ("grpo_project.verifier", sys.argv[1] + "/verifier")):
    module = types.ModuleType(name)
    module.__path__ = [path]
    sys.modules[name] = module
import importlib
importlib.import_module("grpo_project.verifier." + sys.argv[2]).main(*map(int, sys.argv[3:]))
"""

# Not -I, which would ignore PYTHONHASHSEED: the environment is replaced as a whole instead (nothing of the trainer's
# reaches a process of the verifier), and the order of sets is the same in every candidate.
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
NUMPY_SITE = "GRPO_NUMPY_SITE"
"""Environment variable of the server and the judges: the folder that numpy is installed in, if it is."""


def environment() -> dict[str, str]:
    """The whole environment of a process of the verifier."""
    return dict(_ENVIRONMENT)


def server_environment() -> dict[str, str]:
    """The server's, which also says where numpy is: found here, because a bare interpreter can't see it."""
    found = importlib.util.find_spec("numpy")
    site = {} if found is None or found.origin is None else {NUMPY_SITE: str(Path(found.origin).parent.parent)}
    return environment() | site


def command(module: str, *numbers: int) -> list[str]:
    """The argument list that runs ``grpo_project.verifier.MODULE.main(*numbers)`` in a bare interpreter."""
    package = str(Path(__file__).resolve().parents[2])
    return [sys.executable, "-s", "-S", "-P", "-c", _BOOTSTRAP, package, module, *map(str, numbers)]
