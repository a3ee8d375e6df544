"""Check this machine: versions, accelerator, sandbox, W&B, disk. Exit code 1 if training would fail or be uncaged."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import NamedTuple

LITTLE_DISK_GB = 5.0


class Finding(NamedTuple):
    """One thing looked at. ``verdict``: ok, note, or bad (something to mend before training)."""

    subject: str
    verdict: str
    text: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output_dir", default=".", help="where runs are to be kept (its disk is looked at)")


def run(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    colours = {"ok": "green", "note": "yellow", "bad": "bold red"}
    findings = list(examine(args.output_dir))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for finding in findings:
        table.add_row(finding.subject, f"[{colours[finding.verdict]}]{finding.verdict}[/]", finding.text)
    Console(highlight=False).print(table)
    return int(any(finding.verdict == "bad" for finding in findings))


def examine(output_dir: str) -> Iterator[Finding]:
    """Every finding, in the order in which they are printed."""
    yield from versions()
    yield accelerator()
    yield from sandbox()
    yield verilog()
    yield tracking()
    yield disk(output_dir)


def versions() -> Iterator[Finding]:
    from grpo_project.record.run_record import versions as installed

    for name, version in installed().items():
        yield Finding(name, "bad" if version == "not installed" else "ok", version)


def accelerator() -> Finding:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Finding("accelerator", "ok", ", ".join(names))
    cores = torch.get_num_threads()
    return Finding("accelerator", "note", f"none: training runs on the CPU, in float32, with {cores} threads")


def sandbox() -> Iterator[Finding]:
    """The isolation level in force, and each of its promises put to the test."""
    from grpo_project.errors import ConfigError, SandboxError
    from grpo_project.verifier import Verifier
    from grpo_project.verifier.selftest import run_probes

    try:
        with Verifier(workers=1, cache=False) as verifier:
            yield Finding("sandbox", "ok", f"isolation level {verifier.isolation}")
            for probe, status in run_probes(verifier):
                if status not in probe.expected:
                    yield Finding("sandbox", "bad", f"broken promise: {probe.promise} (got {status.value})")
    except (ConfigError, SandboxError) as error:
        yield Finding("sandbox", "bad", str(error))


def verilog() -> Finding:
    """Icarus Verilog, which only Verilog problems need, put to the test in the sandbox."""
    from grpo_project.errors import ConfigError, SandboxError
    from grpo_project.verifier.selftest import verilog_probe
    from grpo_project.verifier.verilog.icarus import find_icarus

    try:
        version = find_icarus().version
        status = verilog_probe()
    except ConfigError as error:
        return Finding("verilog", "note", str(error))
    except SandboxError as error:
        return Finding("verilog", "bad", str(error))
    if status != "passed":
        return Finding("verilog", "bad", f"Icarus Verilog {version}: a right design is judged {status}")
    return Finding("verilog", "ok", f"Icarus Verilog {version}")


def tracking() -> Finding:
    from grpo_project.errors import TrackingError
    from grpo_project.tracking.manager import check_wandb_settings

    try:
        mode, policy = check_wandb_settings()
    except TrackingError as error:
        return Finding("W&B", "bad", str(error))
    return Finding(
        "W&B", "ok" if mode.name == "online" else "note", f"{mode.name} ({mode.reason}); on resume: {policy}"
    )


def disk(output_dir: str, free_gb: Callable[[str], float] | None = None) -> Finding:
    """Room and permission where runs are kept."""
    import shutil
    from pathlib import Path

    from grpo_project.errors import ConfigError
    from grpo_project.training.plan import require_writable

    try:
        require_writable(Path(output_dir))
    except ConfigError as error:
        return Finding("disk", "bad", str(error))
    existing = next(
        path for path in (Path(output_dir).absolute(), *Path(output_dir).absolute().parents) if path.exists()
    )
    free = (free_gb or (lambda path: shutil.disk_usage(path).free / 1e9))(str(existing))
    return Finding("disk", "ok" if free >= LITTLE_DISK_GB else "note", f"{free:.0f} GB free at {existing}")
