"""Icarus Verilog on this machine: found once, asked once how its driver calls its compiler.

``iverilog`` is a driver that starts a shell, a preprocessor and the compiler ``ivl``, which gets a configuration file
whose lines differ from one version to the next. The driver costs 3 ms of CPU a design and wants a shell, so we run
``ivl`` ourselves, with the configuration that the driver of this very version wrote when it was asked: no table of
versions here.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grpo_project.errors import ConfigError

INSTALL = (
    "install Icarus Verilog 11 or newer: `apt-get install iverilog`, `brew install icarus-verilog` or "
    "`conda install -c conda-forge iverilog`"
)
TOP, OUT = "GRPO_TOP", "GRPO_OUT"
"""Stand-ins in the configuration for the root module and the output file."""
OLDEST = 11
_PROBE = """#!/bin/sh
for a in "$@"; do case $a in -C*) cat "${a#-C}" >> "$GRPO_PROBE";; esac; done
cat > /dev/null
"""
# Of the modules with system tasks that the driver names, those for VHDL cost a design two milliseconds to load.
_UNUSED_MODULES = ("vhdl_sys.vpi", "vhdl_textio.vpi", "va_math.vpi")
_PROBE_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Icarus:
    """The programs and how ``ivl`` is configured. Plain values: it travels to the judges with each problem."""

    version: str
    ivl: str
    ivlpp: str
    vvp: str
    configuration: str
    """Lines of ``ivl -C FILE``, with ``TOP`` and ``OUT`` in place of the root module and the output."""
    readable: tuple[str, ...]
    """Files and folders that the three programs need, those of their shared libraries included."""

    def configured(self, roots: Sequence[str], out: str) -> bytes:
        """The configuration file for these root modules."""
        lines = "\n".join(f"root:{root}" for root in roots)
        return self.configuration.replace(f"root:{TOP}", lines).replace(OUT, out).encode()


@functools.lru_cache(maxsize=1)
def find_icarus() -> Icarus:
    """Raises ``ConfigError``, one line with the remedy, where Icarus Verilog is missing, too old, or not whole."""
    driver, vvp = shutil.which("iverilog"), shutil.which("vvp")
    if driver is None or vvp is None:
        missing = "iverilog" if driver is None else "vvp"
        raise ConfigError(f"Verilog problems need Icarus Verilog, and there is no {missing} on the PATH; {INSTALL}")
    version = installed_version(driver)
    if version is None or int(version.split(".")[0]) < OLDEST:
        raise ConfigError(f"{driver} is Icarus Verilog {version or 'of an unknown version'}; {INSTALL}")
    with tempfile.TemporaryDirectory(prefix="grpo-icarus-") as folder:
        base = _base_folder(driver, Path(folder))
        configuration = _ask_driver(driver, base, Path(folder))
    # What the driver names by its path is resolved: a link in the cage would lead nowhere.
    programs = {
        name: os.path.realpath(path) for name, path in (("vvp", vvp), ("ivl", base / "ivl"), ("ivlpp", base / "ivlpp"))
    }
    libraries = _libraries(
        [*programs.values(), *map(str, sorted(base.glob("*.vpi"))), *map(str, sorted(base.glob("*.tgt")))]
    )
    readable = tuple(dict.fromkeys([str(base), *programs.values(), *libraries]))
    return Icarus(version, programs["ivl"], programs["ivlpp"], programs["vvp"], configuration, readable)


def installed_version(driver: str | None = None) -> str | None:
    """``"12.0"``, or ``None`` where there is no Icarus Verilog that can be run."""
    driver = driver or shutil.which("iverilog")
    if driver is None:
        return None
    found = re.search(r"Icarus Verilog version (\d+(?:\.\d+)?)", _output([driver, "-V"]))
    return found[1] if found else None


def _output(command: list[str], **environment: str) -> str:
    """What a trusted command prints, on either stream. Raises ``ConfigError``."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_PROBE_LIMIT_S,
            env=os.environ | environment,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{command[0]} can't be run ({error}); {INSTALL}") from None
    return done.stdout.decode(errors="replace")


def _base_folder(driver: str, work: Path) -> Path:
    """Where ``ivl`` and its parts lie: the driver says so when it is asked to be verbose."""
    (work / "probe.v").write_text("module probe; endmodule\n")
    told = _output([driver, "-v", "-o", str(work / "probe.vvp"), str(work / "probe.v")])
    found = re.search(r"^translate: (\S+)[/\\]ivlpp\b", told, re.MULTILINE)
    if found is None or not (Path(found[1]) / "ivl").exists():
        raise ConfigError(f"{driver} does not say where its compiler is; {INSTALL}")
    return Path(found[1])


def _ask_driver(driver: str, base: Path, work: Path) -> str:
    """The configuration that the driver writes, taken down by a stand-in for ``ivl`` in a copy of its folder."""
    copy = work / "base"
    copy.mkdir()
    for path in base.iterdir():
        if path.name != "ivl":
            (copy / path.name).symlink_to(path)
    stand_in = copy / "ivl"
    stand_in.write_text(_PROBE)
    stand_in.chmod(0o755)
    told = work / "told"
    command = [driver, "-B", str(copy), "-g2012", "-s", TOP, "-o", OUT, str(work / "probe.v")]
    _output(command, GRPO_PROBE=str(told))
    lines = told.read_text().splitlines() if told.exists() else []
    if f"root:{TOP}" not in lines or f"out:{OUT}" not in lines:
        raise ConfigError(f"{driver} calls its compiler in a way that is not known here; {INSTALL}")
    kept = [line for line in lines if not line.endswith(_UNUSED_MODULES) and not line.startswith("ivlpp:")]
    return "\n".join(kept).replace(str(copy), str(base)) + "\n"


def _libraries(programs: list[str]) -> list[str]:
    """Folders of the shared libraries, and the loader, by the paths under which they are asked for."""
    found: dict[str, None] = {}
    for program in programs:
        with contextlib.suppress(ConfigError):  # a static program, or a system whose loader is not asked this way
            for path in re.findall(r"(/\S+)", _output(["ldd", program])):
                if ".so" in path:
                    found[path if "ld-linux" in path or "ld-musl" in path else os.path.dirname(path)] = None
    return list(found)
