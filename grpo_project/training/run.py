"""A whole training run on one page: build the trainer, open the record, train, leave the model behind.

What can be refused before a model is loaded was refused in ``plan``. What only the model can tell is refused while the
trainer is built: until then nothing was written, and a run that is to be overwritten is still there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import transformers
from accelerate import PartialState
from accelerate.utils import gather_object
from rich.console import Console
from safetensors import SafetensorError
from transformers import AutoTokenizer
from trl import get_peft_config, get_quantization_config

from grpo_project.config import Configuration, one_line
from grpo_project.curriculum import Curriculum, UniformSource
from grpo_project.durations import parse_duration
from grpo_project.errors import ConfigError
from grpo_project.evaluation.callback import EnhancedInferenceCallback
from grpo_project.evaluation.result import EvaluationResult
from grpo_project.problems.prompt import prompt_for
from grpo_project.run_arguments import RunArguments
from grpo_project.tracking.sinks import SINKS
from grpo_project.training import checkpoints
from grpo_project.training.callbacks import JournalCallback, PhaseCallback, PreemptionCallback, TimedSaveCallback
from grpo_project.training.model_card import write_model_card
from grpo_project.training.observer import EventWriter, RunObserver
from grpo_project.training.open_run import OpenRun, Outcome, open_run
from grpo_project.training.peers import Peers, group_store
from grpo_project.training.plan import RunPlan
from grpo_project.training.progress import ProgressCallback
from grpo_project.training.publish import publish
from grpo_project.training.stop_request import StopRequest
from grpo_project.training.trainer import CodeTrainer
from grpo_project.training.watchdog import Watchdog
from grpo_project.verifier import Job, Verdict, Verifier
from grpo_project.verifier.readiness import require_judgeable

logger = logging.getLogger("grpo_project")


def train(plan: RunPlan, verifier: Verifier, console: Console) -> Outcome:
    """Train as planned, from a checkpoint or from the start, and return how it ended."""
    main_process = plan.configuration.grpo.process_index == 0
    plain = plan.configuration.plain_progress
    progress = ProgressCallback(console, lambda: stage_name(plan.source), bar=console.is_terminal and not plain)
    arguments = plan.configuration.run
    max_runtime_s = None if arguments.max_runtime is None else parse_duration(arguments.max_runtime)
    with StopRequest(arguments.preemption_grace_s, max_runtime_s) as stop:
        if main_process and plan.earlier.record is None:
            require_judgeable(verifier, (*plan.train.problems, *plan.heldout.problems))
        with nothing_left_behind(plan.output_dir):
            trainer, evaluation = build_trainer(plan, load_tokenizer(plan), verifier, stop)
        PartialState().wait_for_everyone()  # every rank has its plan and its trainer; now the run directory may change
        nodes = {"verifier_nodes": verifier.nodes} if arguments.verifier_address else {}
        with open_run(plan, verifier.isolation, main_process, **nodes) as run:
            events = connect(trainer, evaluation, run, plan, stop, progress)
            try:
                with watching(trainer, arguments, stop, events), together():
                    trainer.train(resume_from_checkpoint=str(plan.resume_from) if plan.resume_from else None)
            finally:
                progress.stop()  # a live bar would leave a terminal without a cursor
            step = trainer.state.global_step
            reason = next(filter(None, gather_object([stop.reason])), None)  # a signal may reach one rank alone
            if trainer.interrupted and reason:
                saved = checkpoints.checkpoint_of(plan.output_dir, step).is_dir()
                outcome = Outcome("interrupted", step, reason, stop.exit_code, saved=saved)
            else:
                outcome = Outcome("finished", step, model_files=publish(trainer, plan.output_dir))
            run.end(outcome)
            if main_process and outcome.status == "finished":
                write_model_card(plan.output_dir)
        PartialState().wait_for_everyone()  # torchrun ends all ranks as soon as one has left with exit code 75
        return outcome


@contextmanager
def nothing_left_behind(output_dir: Path) -> Iterator[None]:
    """A start that is refused within leaves no folder; transformers makes it as soon as there is a trainer."""
    existed = output_dir.exists()
    try:
        yield
    except BaseException:
        if not existed:
            with suppress(OSError):  # not there, or not empty: then it is not ours to remove
                output_dir.rmdir()
        raise


def build_trainer(
    plan: RunPlan, tokenizer: Any, verifier: Verifier, stop: StopRequest
) -> tuple[CodeTrainer, EnhancedInferenceCallback]:
    """Load the model and put together what needs no run directory.

    Raises:
        ConfigError: the model can't be loaded, or not trained with these flags.
    """
    configuration = plan.configuration
    arguments, grpo = configuration.run, configuration.grpo
    evaluation = EnhancedInferenceCallback(
        arguments.eval_every_n_steps,
        arguments.max_eval_samples,
        problems=plan.heldout.problems,
        num_samples=arguments.eval_num_samples,
        temperature=arguments.eval_temperature,
        batch_size=arguments.eval_batch_size,
        verifier=verifier,
        seed=grpo.seed,
        system_prompt=arguments.system_prompt,
        stop_requested=lambda: stop.pending,
    )
    grpo.model_init_kwargs = model_init_kwargs(configuration)
    # Projections of the journal, not transformers' callbacks: those lose and double steps over a resume.
    grpo.report_to = [name for name in grpo.report_to if name != "wandb" and name not in SINKS]
    grpo.disable_tqdm = True
    try:
        trainer = CodeTrainer(
            model=plan.model,
            args=grpo,
            processing_class=tokenizer,
            peft_config=lora_config(configuration),
            callbacks=[evaluation],
            problem_source=plan.source,
            render=lambda problem: prompt_for(problem, tokenizer, arguments.system_prompt),
            judge=FaultsAsVerdicts(verifier),
            rewards=plan.rewards.functions,
            epoch_size=len(plan.train.problems),
            padding_free=arguments.ragged_batches,
            max_resample=arguments.max_resample,
            max_infrastructure_rate=arguments.max_infrastructure_rate,
            extra_metrics=plan.source.metrics,
            components={"evaluation": evaluation},
            stop_request=stop,
        )
    except (OSError, ValueError, ImportError, NotImplementedError, SafetensorError) as error:
        # TRL, transformers and PEFT refuse a model or flags that do not go together, in their own words.
        logger.debug("the trainer could not be built", exc_info=True)
        raise ConfigError(f"{plan.model} can't be trained with these flags: {one_line(error)}") from error
    evaluation.bind(trainer)
    trainer.step_end_incomplete = lambda: evaluation.abandoned == trainer.state.global_step
    trainer.remove_callback(transformers.PrinterCallback)  # `progress` speaks
    return trainer, evaluation


class FaultsAsVerdicts:
    """Training's judge: a completion that the verifier can't judge does not end a run of weeks."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def stream(self, jobs: Sequence[Job]) -> Iterable[Verdict]:
        return self._verifier.stream(jobs, keep_faults=True)


def connect(
    trainer: CodeTrainer,
    evaluation: EnhancedInferenceCallback,
    run: OpenRun,
    plan: RunPlan,
    stop: StopRequest,
    progress: ProgressCallback,
) -> EventWriter:
    """Tie the trainer to the open run: what happens is written down, shown, and made known to the curriculum."""
    arguments = plan.configuration.run
    events = EventWriter(run.journal, progress.say)
    observer = RunObserver(plan.source, plan.heldout.problems, events, run.samples, stop.ask)

    def on_evaluation(result: EvaluationResult) -> None:
        observer.evaluation(result)
        progress.show_evaluation(result.pass_rate)

    report_computation(trainer, events)
    evaluation.journal, evaluation.on_result = run.journal, on_evaluation
    trainer.observer, trainer.on_checkpoint = observer, events.event
    trainer.components["divergence"] = observer.divergence
    evaluation.timed = trainer.phases.timed
    trainer.add_callback(PhaseCallback(trainer.phases))
    trainer.add_callback(progress)
    trainer.add_callback(PreemptionCallback(stop))
    if run.journal is not None:
        trainer.add_callback(JournalCallback(run.journal))
        trainer.flush_record = run.journal.flush
    if arguments.save_every_minutes is not None:
        trainer.add_callback(TimedSaveCallback(60 * arguments.save_every_minutes))
    return events


def watching(trainer: CodeTrainer, arguments: RunArguments, stop: StopRequest, events: EventWriter) -> Watchdog:
    """What notices that training stands still."""
    return Watchdog(
        trainer.phases,
        stop,
        stall_after_s=arguments.stall_after_s,
        exit_on_hang=arguments.on_hang == "exit",
        tell=events.event,
        interrupt=trainer.leave_hang,
    )


def together() -> Peers:
    """What notices that another process of this run is gone."""
    state = PartialState()
    return Peers(state.process_index, state.num_processes, group_store() if state.num_processes > 1 else None)


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
