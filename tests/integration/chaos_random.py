"""Configurations that nobody thought of: random combinations of the flags that TRL and transformers have.

What can be thought of stands in ``chaos_configurations``; this looks for the flag, or the two together, that break
exact resume silently. Flags that do not go together are refused at the start, with one line, which is shown.
"""

from __future__ import annotations

import random

ANYTHING: dict[str, list[list[str]]] = {
    # The batch and its reuse
    "gradient_accumulation_steps": [["2"], ["4"]],
    "steps_per_generation": [["1"], ["2"], ["3"], ["4"]],
    "num_iterations": [["2"], ["3"]],
    "num_generations": [["2"], ["8"]],
    "max_resample": [["1"], ["3"]],
    "ragged_batches": [["false"]],
    # Sampling
    "temperature": [["0.7"], ["1.5"]],
    "top_p": [["0.8"]],
    "top_k": [["20"]],
    "min_p": [["0.1"]],
    "repetition_penalty": [["1.1"]],
    "cache_implementation": [["static"], ["dynamic"]],
    # The loss
    "loss_type": [["grpo"], ["dr_grpo"], ["bnpo"], ["cispo"], ["sapo"], ["vespo"], ["dapo"]],
    "importance_sampling_level": [["sequence"]],
    "beta": [["0.05"]],
    "epsilon_high": [["0.28"]],
    "delta": [["1.5"]],
    "scale_rewards": [["batch"], ["none"]],
    "mask_truncated_completions": [["true"]],
    "top_entropy_quantile": [["0.5"]],
    "sync_ref_model": [["true"]],
    "use_adaptive_entropy": [["true"]],
    "off_policy_mask_threshold": [["0.1"]],
    "use_bias_correction_kl": [["true"]],
    "multi_objective_aggregation": [["normalize_then_sum"]],
    "reward": [["all_or_nothing"], ["mixed"]],
    # The optimizer and its rate
    "optim": [["adamw_torch_fused"], ["sgd"], ["adagrad"], ["rmsprop"], ["adafactor"], ["adamw_torch"]],
    "lr_scheduler_type": [["cosine"], ["constant_with_warmup"], ["polynomial"], ["inverse_sqrt"], ["constant"]],
    "warmup_steps": [["3"]],
    "weight_decay": [["0.1"]],
    "max_grad_norm": [["0.05"], ["0"]],
    "adam_beta2": [["0.9"]],
    "neftune_noise_alpha": [["5"]],
    "gradient_checkpointing": [["true"]],
    "bf16": [["true"]],
    "average_tokens_across_devices": [["false"]],
    # When what is written
    "logging_steps": [["2"], ["3"]],
    "logging_first_step": [["true"]],
    "logging_nan_inf_filter": [["false"]],
    "log_completions": [["true"]],
    "save_steps": [["1"], ["2"], ["5"]],
    "save_total_limit": [["1"]],
    "save_every_minutes": [["0.02"]],
    "save_strategy": [["epoch"]],
    "logging_strategy": [["epoch"]],
    "eval_on_start": [["true"]],
    "eval_strategy": [["steps"], ["epoch"]],
    "eval_steps": [["3"]],
    "eval_delay": [["3"]],
    "eval_every_n_steps": [["1"], ["3"], ["0"]],
    "eval_num_samples": [["3"]],
    "eval_batch_size": [["2"]],
    "include_num_input_tokens_seen": [["all"], ["non_padding"]],
    "restore_callback_states_from_checkpoint": [["true"]],
    "ignore_data_skip": [["true"]],
    "full_determinism": [["true"]],
    "data_seed": [["3"]],
    "seed": [["7"]],
    "torch_empty_cache_steps": [["2"]],
    "dataloader_num_workers": [["1"]],
    "dataloader_drop_last": [["true"]],
    "use_cache": [["false"]],
    # The curriculum, the data, the model
    "enable_curriculum": [["false"]],
    "on_stall": [["relax"], ["advance"]],
    "curriculum_config": [["EAGER_CURRICULUM"], ["HARD_CURRICULUM"]],
    "dataset_path": [["SIX_PROBLEMS"], ["UNLABELLED_PROBLEMS"]],
    "model_name": [["MODEL_WITH_DROPOUT"]],
    "attn_implementation": [["eager"]],
    "dtype": [["bfloat16"], ["float32"]],
}
LORA = ["--use_peft", "--lora_r", "4", "--lora_dropout", "0.1", "--lora_target_modules", "q_proj", "v_proj"]
DURATION = {"max_steps": [["8"]], "num_train_epochs": [["2", "--max_steps", "-1", "--dataset_path", "SIX_PROBLEMS"]]}


def random_flags(seed: object) -> list[str]:
    """Three to eight flags, some with LoRA, some by epochs."""
    rng = random.Random(f"flags-{seed}")
    flags: list[str] = []
    for name in rng.sample(sorted(ANYTHING), rng.randint(3, 8)):
        flags += [f"--{name}", *rng.choice(ANYTHING[name])]
    if rng.random() < 0.2:
        flags += LORA
    for name, values in [rng.choice(sorted(DURATION.items()))] if rng.random() < 0.3 else []:
        flags += [f"--{name}", *rng.choice(values)]
    return flags
