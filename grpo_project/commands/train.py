"""``grpo train``: read the flags, check everything, train, say how it ended."""

from __future__ import annotations

import logging
import os
import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from grpo_project.config import Configuration, read_flags, resolve
from grpo_project.locale import shown
from grpo_project.locale.terminal import TerminalConsole
from grpo_project.reports import headline
from grpo_project.training.left_out import left_out
from grpo_project.training.plan import check_inputs, make_plan, problems_a_step
from grpo_project.training.stop_request import stopping_at_once

if TYPE_CHECKING:
    from grpo_project.training.plan import RunPlan
    from grpo_project.training.run import Outcome


def main(argv: Sequence[str]) -> int:
    """Run ``grpo train ARGV`` and return its exit code.

    Raises:
        UserError: something that the user can fix; no model was loaded and nothing was written.
        InfrastructureError: our own machinery failed.
    """
    if {"-h", "--help", "--help-all"} & set(argv):
        from grpo_project.commands.train_help import train_help

        print(train_help(argv, everything="--help-all" in argv))
        return 0
    with stopping_at_once():
        return _train(argv)


def _train(argv: Sequence[str]) -> int:
    argv, recorded, taken = left_out(argv)
    flags = read_flags(argv, recorded)
    inputs = None if flags.run.print_curriculum else check_inputs(flags)
    silence_libraries()
    configuration = resolve(flags)
    console = TerminalConsole(quiet=not is_main_process(), soft_wrap=True)
    set_up_logging(configuration, console)
    if configuration.run.print_curriculum:
        print_curriculum(configuration)
        return 0

    fitted = fit_to_processes(configuration)
    from grpo_project.reports.summary import run_summary
    from grpo_project.verifier import Verifier

    plan = make_plan(configuration, inputs)
    run = configuration.run
    with Verifier(
        workers=run.verifier_workers,
        isolation=run.verifier_isolation,
        cache=run.verifier_cache,
        secret=plan.verifier_secret,
        address=run.verifier_address,
        fallback=run.verifier_fallback,
    ) as verifier:
        if plan.earlier.finished_at is not None:
            console.print(f"{plan.output_dir}: this run is finished (step {plan.earlier.finished_at}); nothing to do.")
            if taken:
                console.print(f"[yellow]note:[/] {escape(taken)}", highlight=False)
        else:
            announce(plan, verifier.isolation, console)
            for note in filter(None, (taken, fitted, *flags.notes)):
                console.print(f"[yellow]note:[/] {escape(note)}", highlight=False)
            # TRL and what belongs to it load in seconds; everything that could be refused was refused before.
            from grpo_project.training.run import train

            outcome = train(plan, verifier, console)
            if outcome.status == "interrupted":
                return report_interruption(plan, outcome, console)
    console.print()
    console.print(run_summary(plan.output_dir))
    return 0


def fit_to_processes(configuration: Configuration) -> str:
    """Spread the batch of a run that was started on another number of processes over those at hand; says how.

    Raises:
        ConfigError: they can't share it evenly.
    """
    from grpo_project.record.run_record import RunRecord
    from grpo_project.training.elastic import apply, fitted, recorded_layout

    grpo = configuration.grpo
    output_dir = Path(grpo.output_dir)
    anew = configuration.run.overwrite_output_dir or not output_dir.is_dir()
    record = None if anew else RunRecord.read(output_dir)
    if record is None or all(start.get("world_size") == grpo.world_size for start in record.attempts):
        return ""
    before = record.attempts[-1]["world_size"]
    recorded = recorded_layout(record.content["config"], before)
    layout = fitted(recorded, grpo.world_size, grpo.per_device_train_batch_size)
    apply(layout, grpo)
    return (
        f"{layout.world} processes instead of {before}: {layout.per_device} completions on each at once, "
        f"{layout.accumulation} times a step, so that a step is still of {layout.optimizer_batch}"
    )


def announce(plan: RunPlan, isolation: str, console: Console) -> None:
    """One line each: what is trained on what, and whether it goes on."""
    name = "the embedded model" if plan.configuration.embedded_model else plan.model
    console.print(
        f"Training {name} on {len(plan.train.problems):,} problems ({plan.train.source}), "
        f"held out: {len(plan.heldout.problems):,} ({plan.heldout.source}). "
        f"Generated code runs caged ({isolation}). Output: {plan.output_dir}",
        highlight=False,
    )
    console.print(step_line(plan), highlight=False)
    for rejected in plan.earlier.rejected:
        console.print(f"[bold red]{rejected.path.name} is damaged[/]: {rejected.reason}; it is kept aside, not used")
    if plan.resume_from is not None:
        console.print(f"Resuming from {plan.resume_from} (step {plan.resume_step})", highlight=False)
    for note in plan.notes:
        console.print(f"[yellow]note:[/] {note}", highlight=False)


def step_line(plan: RunPlan) -> str:
    """What a step is made of and how many there are, so that a bad default is seen before it costs a day."""
    from transformers import SchedulerType  # a name, or transformers' own kind of name

    configuration = plan.configuration
    grpo, model = configuration.grpo, configuration.model
    what = f"LoRA of rank {model.lora_r}" if model.use_peft else "all weights"
    steps = f"{grpo.max_steps:,} steps" if grpo.max_steps > 0 else f"{grpo.num_train_epochs:g} epochs"
    own = not configuration.embedded_model and configuration.run.recipe == "auto"
    return (
        f"A step: {problems_a_step(configuration):g} problems x {grpo.num_generations} completions of at most "
        f"{grpo.max_completion_length} tokens, {what}, learning rate {grpo.learning_rate:g} "
        f"({SchedulerType(grpo.lr_scheduler_type).value}); {steps}, {how_long(plan)}"
        + ("; --recipe trl takes TRL's defaults" if own else "")
    )


def how_long(plan: RunPlan) -> str:
    """``about 3 h``, by the steps that this run has made already."""
    from grpo_project.durations import show_duration
    from grpo_project.record.run_directory import Run

    steps = plan.configuration.grpo.max_steps - (plan.resume_step or 0)
    rows = Run(plan.output_dir).metrics("train", ["step_time"])[-20:] if plan.earlier.record else []
    seconds = [row["step_time"] for row in rows if "step_time" in row]
    if not seconds or steps <= 0:
        return "how long is told after the first"
    return f"about {show_duration(steps * sum(seconds) / len(seconds))} to go"


def report_interruption(plan: RunPlan, outcome: Outcome, console: Console) -> int:
    goes_on = "The same command goes on from there"
    if not outcome.step:
        where = f"before the first step ({outcome.reason}). {goes_on}"
    elif outcome.saved:
        where = f"at step {outcome.step}; the checkpoint is saved ({outcome.reason}). {goes_on}"
    else:
        where = (
            f"at step {outcome.step} ({outcome.reason}), and its checkpoint could NOT be saved. "
            "The same command goes on from the checkpoint before"
        )
    console.print(f"\nStopped {where}.", highlight=False)
    if outcome.step:
        console.print(f"Or: {headline.grpo()} resume {shlex.quote(str(plan.output_dir))}", highlight=False)
    return outcome.exit_code


def print_curriculum(configuration: Configuration) -> None:
    from grpo_project.curriculum.settings import curriculum_yaml, load_curriculum

    run = configuration.run
    settings = load_curriculum(run.curriculum_config).overridden(run.curriculum_threshold, run.on_stall)
    if not run.enable_curriculum:
        print("# --enable_curriculum false: a run with these flags does not use it.")
    print(curriculum_yaml(settings), end="")


def set_up_logging(configuration: Configuration, console: Console) -> None:
    """Our logger speaks through the console, so that lines and the progress bar do not mix; libraries keep quiet."""
    logger = logging.getLogger("grpo_project")
    level = configuration.grpo.log_level
    logger.setLevel(logging.INFO if level == "passive" else level.upper())
    logger.handlers = [ConsoleHandler(console)]
    logger.propagate = False


class ConsoleHandler(logging.Handler):
    """Prints messages as they are; warnings and errors are marked."""

    MARKS = ((logging.ERROR, "[bold red]error:[/] "), (logging.WARNING, "[yellow]warning:[/] "))

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        mark = next((mark for level, mark in self.MARKS if record.levelno >= level), "")
        self.console.print(mark + escape(shown(record.getMessage())), highlight=False)


def silence_libraries() -> None:
    """Of what TRL and transformers say on the way, keep errors: our own messages say what a user needs to know."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # TRL 1.16 uses names that transformers 5.23 deprecates; no flag of the user's is meant.
    warnings.filterwarnings("ignore", r"`(is_)?gradient_checkpointing.*` is deprecated", FutureWarning)


def is_main_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0
