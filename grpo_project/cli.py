"""The ``grpo`` command: finds the subcommand, runs it, and turns errors into one line and an exit code.

Exit codes: 0 done; 1 the command ran and found a fault; 2 the user can fix it (one line, nothing was changed);
70 our own machinery failed; 75 stopped early on purpose, run the same command again to go on; 130 interrupted.

Only the subcommand that runs is imported: ``grpo --help`` loads nothing heavy.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from grpo_project import __version__
from grpo_project.errors import DiskFullError, InfrastructureError, PeerGoneError, UserError
from grpo_project.locale import from_environment, shown, take_flag, use

EXIT_USER_ERROR = 2
EXIT_INFRASTRUCTURE = 70  # EX_SOFTWARE
EXIT_AGAIN = 75  # EX_TEMPFAIL: the same command goes on
EXIT_INTERRUPTED = 130

# name -> what it does. Each is a module of grpo_project.commands.
COMMANDS = {
    "train": "train a model with GRPO on problems with tests (no arguments: the embedded model and problems)",
    "resume": "go on with a run: its folder is all that is needed",
    "evaluate": "pass rates of one or two models on held-out problems, without training",
    "samples": "show training completions and evaluations: code, failing tests, changes between steps",
    "serve": "judge completions over HTTP, for trainers in any language",
    "verify": "run a problem file's reference solutions, or given completions, through the sandbox",
    "difficulty": "estimate each problem's difficulty for a model by sampling, and write complexity and level",
    "convert": "read problems in any format, and write them in the native one",
    "recipe": "print a complete set of flags to start from, as YAML",
    "self-check": "use this installation once: sandbox, a run that is killed and resumed, W&B",
    "doctor": "check this machine: versions, accelerator, sandbox, W&B, disk",
    "report": "write a page about a run, or comparing several: one HTML file; --serve keeps it up to date",
    "status": "how a run stands: step, evaluations, why it is in its stage, what W&B has, what went wrong",
    "runs": "list the runs below a folder: state, step, pass rate with interval, model, data, age",
    "sync": "upload to W&B what it does not have yet of a run directory, each step exactly once",
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="grpo",
        description="GRPO training for code models that survives being killed.",
        epilog="`grpo COMMAND --help` tells more about a command.",
    )
    parser.add_argument("--lang", metavar="LANGUAGE", help="what the terminal speaks: en, zh (default: $LANG)")
    parser.add_argument("--version", action="version", version=f"grpo {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, summary in COMMANDS.items():
        # Its own parser reads the rest (add_help off: `grpo train --help` belongs to it).
        commands.add_parser(name, help=summary, add_help=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code. ``argv`` excludes the program's name."""
    try:
        argv, language = take_flag(sys.argv[1:] if argv is None else argv)
    except ValueError as error:
        print(f"grpo: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    use(language or from_environment())
    parser = build_parser()
    if not argv:
        parser.print_help()
        return EXIT_USER_ERROR
    if argv[0] not in COMMANDS:
        parser.parse_args(argv)  # prints --help or --version, or the error, and exits
    try:
        return run_command(argv[0], argv[1:])
    except UserError as error:
        complain(argv[0], str(error))
        return EXIT_USER_ERROR
    except DiskFullError as error:
        complain(argv[0], str(error))
        return EXIT_INFRASTRUCTURE
    except PeerGoneError as error:
        complain(argv[0], str(error))
        return EXIT_AGAIN
    except InfrastructureError as error:
        complain(argv[0], f"internal failure: {error}")
        return EXIT_INFRASTRUCTURE
    except KeyboardInterrupt:
        complain(argv[0], "interrupted")
        return EXIT_INTERRUPTED


def complain(name: str, text: str) -> None:
    print(f"grpo {name}: {shown(text)}", file=sys.stderr)


def run_command(name: str, argv: Sequence[str]) -> int:
    """Import ``grpo_project.commands.NAME`` (``_`` for ``-``), parse its arguments, run it."""
    # Before torch loads its threads: waiting ones sleep. Where others need the cores, spinning ones cost several times
    # the work itself (docs/computation.md).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    module = importlib.import_module(f"grpo_project.commands.{name.replace('-', '_')}")
    if hasattr(module, "main"):  # reads its own arguments (train: TRL's parser)
        return module.main(argv)
    parser = argparse.ArgumentParser(prog=f"grpo {name}", description=module.__doc__, allow_abbrev=False)
    module.add_arguments(parser)
    return module.run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
