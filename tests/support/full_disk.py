"""Runs a Python script on a disk of its own, a few megabytes large: a tmpfs in a mount namespace, so ENOSPC is real."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

FILL = '''
import os
from pathlib import Path

def fill(folder):
    """Leave no byte."""
    file = os.open(Path(folder) / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    size = 1 << 20
    while size:
        try:
            os.write(file, b"x" * size)
        except OSError:
            size //= 2
    os.close(file)

def free(folder):
    (Path(folder) / "filler").unlink()
'''


def run_on_small_disk(folder: Path, megabytes: int, code: str) -> str:
    """The standard output of ``code``, which finds the disk at ``sys.argv[1]`` and has ``fill`` and ``free``."""
    mount = f'mount -t tmpfs -o size={megabytes}m tmpfs "$1"'
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount, "sh", str(folder)], capture_output=True).returncode:
        pytest.skip("this machine lets no user mount a tmpfs in a namespace of its own")
    command = ["unshare", "-rm", "sh", "-c", mount + ' && exec "$2" -c "$3" "$1"', "sh", str(folder), sys.executable]
    done = subprocess.run([*command, FILL + textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
