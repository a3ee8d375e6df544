"""The levels on other machines than this: as an ordinary user, and where user namespaces are not to be had."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import grpo_project

SCRIPT = """
import sys
from grpo_project.errors import ConfigError
from grpo_project.verifier import Verifier
from grpo_project.verifier.selftest import run_probes
level = None if sys.argv[1] == "strongest" else sys.argv[1]
try:
    with Verifier(workers=1, isolation=level) as verifier:
        broken = [(probe.promise, status) for probe, status in run_probes(verifier) if status not in probe.expected]
        print(verifier.isolation, *broken)
except ConfigError as error:
    print("refused:", error)
"""


def ordinary_python():
    """An interpreter that every user may run: the one of the tests may lie in a folder of root's."""
    check = ["-c", "import sys; print(sys.version_info >= (3, 11))"]
    for path in (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin")):
        if path is None:
            continue
        try:
            asked = subprocess.run([path, *check], user=65534, capture_output=True, text=True, cwd="/")
        except PermissionError:
            continue
        if asked.stdout == "True\n":
            return path
    return None


def outcome(command, **options):
    root = str(Path(grpo_project.__file__).parent.parent)
    environment = {"PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.environ["PATH"]}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", timeout=120, **options)
    return done.stdout.strip() or done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user (and the other tests run as this one)")
@pytest.mark.parametrize("level", ["namespaces", "landlock"])
def test_every_promise_holds_as_an_ordinary_user(level):
    python = ordinary_python()
    if python is None:
        pytest.skip("no interpreter that an ordinary user may run")
    assert outcome([python, "-c", SCRIPT, level], user=65534, group=65534, extra_groups=[]) == level


def without_namespaces(command):
    """The command in a user namespace that allows no further ones, as containers do."""
    shell = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "sh", "-c", shell, "sh", *command]


@pytest.mark.skipif(shutil.which("unshare") is None, reason="util-linux is not installed")
def test_without_user_namespaces_the_next_level_is_taken_and_named():
    if subprocess.run(without_namespaces(["true"]), capture_output=True).returncode != 0:
        pytest.skip("this machine allows no user namespaces to begin with")
    assert outcome(without_namespaces([sys.executable, "-c", SCRIPT, "strongest"])) == "landlock"
    refused = outcome(without_namespaces([sys.executable, "-c", SCRIPT, "namespaces"]))
    assert refused.startswith("refused: verifier isolation:")
    assert "unshare" in refused


@pytest.mark.skipif(shutil.which("unshare") is None, reason="util-linux is not installed")
def test_root_of_a_namespace_without_other_users_is_caged_as_well():
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", SCRIPT, "namespaces"]
    if subprocess.run([*command[:3], "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine allows no user namespaces to begin with")
    assert outcome(command) == "namespaces"
