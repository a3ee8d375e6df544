"""Tiny random models of many families, by name: the class of the configuration and what it takes beside the sizes."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

END, WORDS, WINDOW = 2, 128, 8

_SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": END}
_SIZES = {
    **{
        "vocab_size": WORDS,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },
    **{"num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.3},
    **_SPECIAL,
}
_OLD = {"vocab_size": WORDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "initializer_range": 0.3}
_OLD |= _SPECIAL
_PLAIN = {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, **_SPECIAL}
_EIGHT = {"head_dim": 8}
_WINDOW = {"sliding_window": WINDOW}
_EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}
_LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
_LATENT |= {"head_dim": 4, "num_key_value_heads": 4, "n_routed_experts": 2, "num_experts_per_tok": 1, "n_group": 1}
_LATENT |= {"topk_group": 1, "moe_intermediate_size": 16, "first_k_dense_replace": 1}
_LINEAR = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 2}
_LOCAL = {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4, "window_size": WINDOW}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "apertus": ("ApertusConfig", _SIZES),
    "arcee": ("ArceeConfig", _SIZES),
    "bamba": ("BambaConfig", _SIZES | _MAMBA | {"attn_layer_indices": [1]}),
    "biogpt": ("BioGptConfig", _SIZES),
    "bitnet": ("BitNetConfig", _SIZES),
    "bloom": ("BloomConfig", _PLAIN | {"n_layer": 2, "n_head": 4, "initializer_range": 0.3}),
    "codegen": ("CodeGenConfig", _OLD | {"rotary_dim": 4}),
    "cohere": ("CohereConfig", _SIZES),
    "cohere2": ("Cohere2Config", _SIZES | _WINDOW),
    "ctrl": ("CTRLConfig", _OLD | {"dff": 48}),
    "deepseek_v2": ("DeepseekV2Config", _SIZES | _LATENT),
    "deepseek_v3": ("DeepseekV3Config", _SIZES | _LATENT),
    "diffllama": ("DiffLlamaConfig", _SIZES),
    "doge": ("DogeConfig", _SIZES),
    "ernie4_5": ("Ernie4_5Config", _SIZES | _EIGHT),
    "exaone4": ("Exaone4Config", _SIZES | _WINDOW | {"sliding_window_pattern": 2}),
    "falcon": ("FalconConfig", _PLAIN | {"alibi": False, "initializer_range": 0.3}),
    "falcon-alibi": ("FalconConfig", _PLAIN | {"alibi": True, "initializer_range": 0.3}),
    "falcon_h1": ("FalconH1Config", _SIZES | _MAMBA | {"mamba_d_ssm": 64}),
    "gemma": ("GemmaConfig", _SIZES | _EIGHT),
    "gemma2": ("Gemma2Config", _SIZES | _EIGHT | _WINDOW),
    "gemma3": ("Gemma3TextConfig", _SIZES | _EIGHT | _WINDOW),
    "glm": ("GlmConfig", _SIZES | _EIGHT),
    "glm4": ("Glm4Config", _SIZES | _EIGHT),
    "gpt2": ("GPT2Config", _OLD),
    "gpt_bigcode": ("GPTBigCodeConfig", _OLD),
    "gpt_neo": ("GPTNeoConfig", _SIZES | _LOCAL),
    "gpt_neox": ("GPTNeoXConfig", _SIZES),
    "gpt_oss": ("GptOssConfig", _SIZES | _EIGHT | _WINDOW | _EXPERTS),
    "gptj": ("GPTJConfig", _OLD | {"rotary_dim": 4}),
    "granite": ("GraniteConfig", _SIZES),
    "granitemoe": ("GraniteMoeConfig", _SIZES | _EXPERTS),
    "granitemoehybrid": (
        "GraniteMoeHybridConfig",
        _SIZES | _MAMBA | _EXPERTS | {"layer_types": ["mamba", "attention"], "shared_intermediate_size": 48},
    ),
    "helium": ("HeliumConfig", _SIZES | _EIGHT),
    "hunyuan": ("HunYuanDenseV1Config", _SIZES | _EIGHT),
    "jamba": (
        "JambaConfig",
        _SIZES
        | {"mamba_d_state": 4, "mamba_dt_rank": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2}
        | {"num_experts_per_tok": 1, "use_mamba_kernels": False},
    ),
    "lfm2": ("Lfm2Config", _SIZES | {"layer_types": ["conv", "full_attention"], "block_dim": 32, "block_ff_dim": 48}),
    "llama": ("LlamaConfig", _SIZES),
    "mamba": ("MambaConfig", _PLAIN | {"state_size": 4, "initializer_range": 0.3}),
    "minimax": ("MiniMaxConfig", _SIZES | _EIGHT | _EXPERTS),
    "mistral": ("MistralConfig", _SIZES | {"sliding_window": None}),
    "mistral-window": ("MistralConfig", _SIZES | _WINDOW),
    "mixtral": ("MixtralConfig", _SIZES | _EXPERTS),
    "mpt": (
        "MptConfig",
        {"vocab_size": WORDS, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 512} | _SPECIAL,
    ),
    "nemotron": ("NemotronConfig", _SIZES),
    "olmo": ("OlmoConfig", _SIZES),
    "olmo2": ("Olmo2Config", _SIZES),
    "olmo3": ("Olmo3Config", _SIZES | _WINDOW),
    "olmoe": ("OlmoeConfig", _SIZES | {"num_experts": 2, "num_experts_per_tok": 1}),
    "opt": (
        "OPTConfig",
        _PLAIN | {"ffn_dim": 48, "max_position_embeddings": 512, "word_embed_proj_dim": 32, "init_std": 0.3},
    ),
    "persimmon": ("PersimmonConfig", _SIZES),
    "phi": ("PhiConfig", _SIZES),
    "phi3": ("Phi3Config", _SIZES),
    "phi3-window": ("Phi3Config", _SIZES | _WINDOW),
    "qwen2": ("Qwen2Config", _SIZES),
    "qwen2-window": ("Qwen2Config", _SIZES | _WINDOW | {"use_sliding_window": True, "max_window_layers": 0}),
    "qwen3": ("Qwen3Config", _SIZES | _EIGHT),
    "qwen3_moe": (
        "Qwen3MoeConfig",
        _SIZES | _EIGHT | {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16},
    ),
    "qwen3_next": (
        "Qwen3NextConfig",
        _SIZES
        | _EIGHT
        | _LINEAR
        | {"layer_types": ["linear_attention", "full_attention"], "num_experts": 2, "num_experts_per_tok": 1}
        | {"moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    ),
    "recurrent_gemma": ("RecurrentGemmaConfig", _SIZES | {"lru_width": 32, "attention_window_size": WINDOW}),
    "rwkv": ("RwkvConfig", {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2} | _SPECIAL),
    "seed_oss": ("SeedOssConfig", _SIZES | _EIGHT),
    "smollm3": ("SmolLM3Config", _SIZES),
    "stablelm": ("StableLmConfig", _SIZES),
    "starcoder2": ("Starcoder2Config", _SIZES | {"sliding_window": None}),
    "starcoder2-window": ("Starcoder2Config", _SIZES | _WINDOW),
    "xglm": (
        "XGLMConfig",
        {"vocab_size": WORDS, "d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4, "init_std": 0.3}
        | {"max_position_embeddings": 512}
        | _SPECIAL,
    ),
}


def build_family(name: str, attention: str) -> PreTrainedModel | None:
    """A model of the family, or ``None`` where it has no such attention."""
    kind, settings = FAMILIES[name]
    torch.manual_seed(0)
    try:
        model = AutoModelForCausalLM.from_config(getattr(transformers, kind)(**settings), attn_implementation=attention)
    except ValueError as error:
        if "does not support an attention implementation" in str(error):
            return None
        raise
    return model.float().eval()
