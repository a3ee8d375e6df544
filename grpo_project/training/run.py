"""A whole training run on one page: open the record, build the parts, train, leave the model behind.

What can fail for the user's sake failed in ``plan`` already; from here on the run directory is written.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import transformers
from accelerate import PartialState
from rich.console import Console
from transformers import AutoTokenizer
from trl import get_peft_config, get_quantization_config

from grpo_project.config import Configuration, one_line
from grpo_project.curriculum import Curriculum, UniformSource
from grpo_project.durations import parse_duration
from grpo_project.errors import ConfigError
from grpo_project.evaluation.callback import EnhancedInferenceCallback
from grpo_project.evaluation.result import EvaluationResult
from grpo_project.problems.prompt import SYSTEM_PROMPT, prompt_for
from grpo_project.record.journal import Journal, next_attempt
from grpo_project.record.run_directory import Run, clear_run
from grpo_project.record.run_record import RunRecord
from grpo_project.record.samples import SampleStore
from grpo_project.rewards import BY_NAME
from grpo_project.tracking.manager import WandBSyncManager, initialize_wandb_sync_manager
from grpo_project.training import checkpoints
from grpo_project.training.callbacks import JournalCallback, PreemptionCallback, TimedSaveCallback
from grpo_project.training.model_card import write_model_card
from grpo_project.training.observer import EventWriter, RunObserver
from grpo_project.training.plan import RunPlan
from grpo_project.training.progress import ProgressCallback
from grpo_project.training.stop_request import StopRequest
from grpo_project.training.trainer import CodeTrainer
from grpo_project.verifier import Verifier

logger = logging.getLogger("grpo_project")

INTERRUPTED_DRAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: ``finished`` or ``interrupted``, at which optimizer step, why, with which exit code."""

    status: str
    step: int
    reason: str = ""
    exit_code: int = 0


@dataclass(frozen=True)
class OpenRun:
    """What the main process writes to; the other ranks have ``None`` for each."""

    journal: Journal | None = None
    samples: SampleStore | None = None
    record: RunRecord | None = None
    tracking: WandBSyncManager | None = None

    def end(self, outcome: Outcome) -> None:
        """Write down how the run ended. After an interruption W&B's last row waits for what the next start adds."""
        if self.journal is None or self.record is None or self.tracking is None:
            return
        self.journal.event(outcome.status, step=outcome.step, reason=outcome.reason)
        self.record.end_attempt(outcome.status, outcome.step)
        if outcome.status == "interrupted":  # the machine is about to go away: what is left is sent by the next start
            self.tracking.finish(timeout_s=INTERRUPTED_DRAIN_S, exit_code=outcome.exit_code)


def train(plan: RunPlan, verifier: Verifier, console: Console) -> Outcome:
    """Train as planned, from a checkpoint or from the start, and return how it ended."""
    main_process = plan.configuration.grpo.process_index == 0
    tokenizer = load_tokenizer(plan)
    PartialState().wait_for_everyone()  # every rank has made its plan of the same run directory; now it may change
    progress = ProgressCallback(console, lambda: stage_name(plan.source))
    arguments = plan.configuration.run
    max_runtime_s = None if arguments.max_runtime is None else parse_duration(arguments.max_runtime)
    with (
        StopRequest(arguments.preemption_grace_s, max_runtime_s) as stop,
        open_run(plan, verifier, main_process) as run,
    ):
        trainer = build_trainer(plan, tokenizer, verifier, run, stop, progress)
        try:
            trainer.train(resume_from_checkpoint=str(plan.resume_from) if plan.resume_from else None)
        finally:
            progress.stop()  # a live bar would leave a terminal without a cursor
        step = trainer.state.global_step
        if trainer.interrupted and stop.reason:
            outcome = Outcome("interrupted", step, stop.reason, stop.exit_code)
        else:
            trainer.save_model(str(plan.output_dir))
            outcome = Outcome("finished", step)
        run.end(outcome)
        if main_process and outcome.status == "finished":
            write_model_card(plan.output_dir)
        return outcome


@contextmanager
def open_run(plan: RunPlan, verifier: Verifier, main_process: bool) -> Iterator[OpenRun]:
    """Prepare the run directory and open what is written to it; close everything in order, whatever happens."""
    if not main_process:
        yield OpenRun()
        return
    configuration, output_dir = plan.configuration, plan.output_dir
    if configuration.run.overwrite_output_dir:
        clear_run(output_dir)
    attempt = next_attempt(output_dir)
    last_step_seen = Run(output_dir).last_step or 0
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(output_dir, attempt))  # from here on no other process writes this run
        put_aside_unused_checkpoints(plan)
        record = plan.record or RunRecord.create(
            output_dir,
            configuration.to_dict(),
            {"train": plan.train.describe(), "heldout": plan.heldout.describe()},
        )
        record.begin_attempt(
            attempt,
            plan.resume_step,
            last_step_seen,
            configuration.to_dict(),  # flags that may change between starts may have
            command=configuration.command,
            world_size=configuration.grpo.world_size,
            isolation=verifier.isolation,
        )
        stack.push(_record_failure(record))
        journal.event(
            "started" if plan.resume_step is None else "resumed", step=plan.resume_step or 0, run_id=record.run_id
        )
        for rejected in plan.rejected:
            journal.event("checkpoint_rejected", checkpoint=rejected.path.name, reason=rejected.reason)
        tracking = initialize_wandb_sync_manager(
            output_dir,
            configuration.run.wandb_project,
            configuration.run.wandb_run_name,
            config=configuration.to_dict(),
            resume=configuration.run.wandb_resume,
            force_new=configuration.run.force_new_wandb_run,
            attempt=attempt,
            resume_step=plan.resume_step,
            journal=journal,
        )
        stack.callback(tracking.finish)
        samples = stack.enter_context(SampleStore(output_dir, attempt, keep=configuration.run.samples_keep))
        yield OpenRun(journal, samples, record, tracking)


def put_aside_unused_checkpoints(plan: RunPlan) -> None:
    """Keep damaged checkpoints, and those of a future that is being replaced, from being picked up later."""
    for rejected in plan.rejected:
        checkpoints.set_aside(plan.output_dir, rejected.path)
    for checkpoint in checkpoints.list_checkpoints(plan.output_dir):
        if checkpoints.step_of(checkpoint) > (plan.resume_step or 0):
            checkpoints.set_aside(plan.output_dir, checkpoint)
    shutil.rmtree(plan.output_dir / checkpoints.STAGING, ignore_errors=True)


def build_trainer(
    plan: RunPlan, tokenizer: Any, verifier: Verifier, run: OpenRun, stop: StopRequest, progress: ProgressCallback
) -> CodeTrainer:
    """Put the parts together. The one place that knows all of them."""
    configuration = plan.configuration
    arguments, grpo = configuration.run, configuration.grpo
    system_prompt = SYSTEM_PROMPT if arguments.system_prompt is None else arguments.system_prompt
    events = EventWriter(run.journal, progress.say)
    observer = RunObserver(plan.source, plan.heldout.problems, events, run.samples, stop.ask)

    def on_evaluation(result: EvaluationResult) -> None:
        observer.evaluation(result)
        progress.show_evaluation(result.pass_rate)

    evaluation = EnhancedInferenceCallback(
        arguments.eval_every_n_steps,
        arguments.max_eval_samples,
        problems=plan.heldout.problems,
        num_samples=arguments.eval_num_samples,
        temperature=arguments.eval_temperature,
        batch_size=arguments.eval_batch_size,
        verifier=verifier,
        seed=grpo.seed,
        system_prompt=system_prompt,
        journal=run.journal,
        on_result=on_evaluation,
        stop_requested=lambda: stop.pending,
    )
    callbacks: list[Any] = [evaluation, progress, PreemptionCallback(stop)]
    if run.journal is not None:
        callbacks.append(JournalCallback(run.journal))
    if arguments.save_every_minutes is not None:
        callbacks.append(TimedSaveCallback(60 * arguments.save_every_minutes))

    grpo.model_init_kwargs = model_init_kwargs(configuration)
    grpo.report_to = [name for name in grpo.report_to if name != "wandb"]  # the uploader's, not transformers'
    grpo.disable_tqdm = True
    try:
        trainer = CodeTrainer(
            model=plan.model,
            args=grpo,
            processing_class=tokenizer,
            peft_config=lora_config(configuration),
            callbacks=callbacks,
            problem_source=plan.source,
            render=lambda problem: prompt_for(problem, tokenizer, system_prompt),
            judge=verifier,
            reward=BY_NAME[arguments.reward],
            epoch_size=len(plan.train.problems),
            padding_free=arguments.ragged_batches,
            max_resample=arguments.max_resample,
            observer=observer,
            extra_metrics=plan.source.metrics,
            components={"evaluation": evaluation, "divergence": observer.divergence},
            stop_request=stop,
            on_checkpoint=events.event,
        )
    except (OSError, ValueError, ImportError, NotImplementedError) as error:
        # TRL, transformers and PEFT refuse a model or flags that do not go together, in their own words.
        logger.debug("the trainer could not be built", exc_info=True)
        raise ConfigError(f"{plan.model} can't be trained with these flags: {one_line(error)}") from error
    report_computation(trainer, events)
    evaluation.bind(trainer)
    trainer.step_end_incomplete = lambda: evaluation.abandoned == trainer.state.global_step
    trainer.remove_callback(transformers.PrinterCallback)  # `progress` speaks
    return trainer


def report_computation(trainer: CodeTrainer, events: EventWriter) -> None:
    """Which code computes the model goes into the journal; what it could not be given is said to the user as well."""
    events.event("computation", log_probabilities=str(trainer.way), sampling=str(trainer.sampler))
    for what, choice in (("log-probabilities", trainer.way), ("sampling", trainer.sampler)):
        if choice.passed_over:
            logger.warning("%s: %s", what, choice)


def load_tokenizer(plan: RunPlan) -> Any:
    """The model's tokenizer. It loads in no time, so a wrong name ends here and not after the run was begun.

    Raises:
        ConfigError: there is no such model, here or on the hub.
    """
    try:
        return AutoTokenizer.from_pretrained(
            plan.model,
            revision=plan.configuration.model.model_revision,
            trust_remote_code=plan.configuration.grpo.trust_remote_code,
            padding_side="left",
            truncation_side="left",
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"--model_name {plan.model}: its tokenizer can't be loaded: {one_line(error)}") from error


def lora_config(configuration: Configuration) -> Any:
    """The LoRA configuration that the flags describe, or ``None``."""
    config = get_peft_config(configuration.model)
    # TRL turns a single `--lora_target_modules q_proj` into a string, which PEFT takes for a pattern of whole paths.
    if config is not None and isinstance(config.target_modules, str) and config.target_modules.isidentifier():
        config.target_modules = {config.target_modules}
    return config


def stage_name(source: Curriculum | UniformSource) -> str:
    return source.stage.name if isinstance(source, Curriculum) else ""


def model_init_kwargs(configuration: Configuration) -> dict[str, Any]:
    """How TRL loads the base model: ``ModelConfig``'s flags on top of ``--model_init_kwargs``."""
    model = configuration.model
    kwargs = dict(configuration.grpo.model_init_kwargs or {})
    kwargs["revision"] = model.model_revision
    if model.attn_implementation is not None:
        kwargs["attn_implementation"] = model.attn_implementation
    if model.dtype is not None:
        kwargs["dtype"] = model.dtype
    if (quantization := get_quantization_config(model)) is not None:
        kwargs["quantization_config"] = quantization
    return kwargs


def _record_failure(record: RunRecord) -> Any:
    """An exit handler that notes in ``run.json`` that the process ended by an exception."""

    def on_exit(kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and record.content["status"] == "running":
            record.content["status"] = "failed" if issubclass(kind, Exception) else "interrupted"
            record.attempts[-1]["error"] = kind.__name__
            record.write()

    return on_exit
