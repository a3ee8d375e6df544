"""How a problem becomes a prompt: one way for every model, the embedded one included.

A chat model gets a system message (how to answer) and a user message (the problem and its starter code) through its
own chat template. A model without a template gets plain text that its completion continues. The tokenizer is only
asked for its template; nothing here imports torch.
"""

from __future__ import annotations

from typing import Any

from grpo_project.problems.problem import Problem

SYSTEM_PROMPTS = {
    "python": "You are a careful Python programmer. Answer with one complete Python program in a ```python block.",
    "verilog": "You are a careful hardware designer. Answer with one complete Verilog module in a ```verilog block.",
}
"""How to answer, by the problem's language: what a ``system_prompt`` of ``None`` stands for."""

Message = dict[str, str]


def user_text(problem: Problem) -> str:
    """The problem as a person would put it: description, then starter code or the name of the function to write."""
    if problem.starter_code:
        return f"{problem.prompt}\n\n{problem.starter_code}"
    if problem.language == "verilog" and problem.entry_point and problem.entry_point not in problem.prompt:
        return f"{problem.prompt}\n\nName the module `{problem.entry_point}`."
    if problem.entry_point and problem.entry_point not in problem.prompt:
        return f"{problem.prompt}\n\nWrite a function named `{problem.entry_point}`."
    return problem.prompt


def messages(problem: Problem, system_prompt: str | None = None) -> list[Message]:
    """The problem as a conversation. An empty ``system_prompt`` leaves the system message out."""
    if system_prompt is None:
        system_prompt = SYSTEM_PROMPTS[problem.language]
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return [*system, {"role": "user", "content": user_text(problem)}]


def prompt_for(problem: Problem, tokenizer: Any, system_prompt: str | None = None) -> list[Message] | str:
    """What TRL's ``prompt`` column takes: messages for a tokenizer with a chat template, plain text otherwise."""
    if not has_chat_template(tokenizer):
        return f"{user_text(problem)}\n" if not problem.starter_code else user_text(problem)
    conversation = messages(problem, system_prompt)
    return conversation if accepts_system_role(tokenizer) else merge_system(conversation)


def prompt_text(problem: Problem, tokenizer: Any, system_prompt: str | None = None) -> str:
    """The prompt as the text that the model sees, generation prompt included."""
    prompt = prompt_for(problem, tokenizer, system_prompt)
    if isinstance(prompt, str):
        return prompt
    return tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)


def prompt_as_text(prompt: Any) -> str:
    """A prompt for people: plain text as it is, messages as ``role: content``."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def has_chat_template(tokenizer: Any) -> bool:
    return getattr(tokenizer, "chat_template", None) is not None


def accepts_system_role(tokenizer: Any) -> bool:
    """Some templates (Gemma's, early Mistral's) refuse a system message by raising ``jinja2.TemplateError``."""
    from jinja2 import TemplateError

    cached = _SYSTEM_ROLE.get(key := str(tokenizer.chat_template))
    if cached is None:
        probe = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
        try:
            tokenizer.apply_chat_template(probe, tokenize=False)
            cached = True
        except TemplateError:
            cached = False
        _SYSTEM_ROLE[key] = cached
    return cached


_SYSTEM_ROLE: dict[str, bool] = {}  # chat template -> whether it takes a system message


def merge_system(conversation: list[Message]) -> list[Message]:
    """Put the system message's text in front of the user's, for templates without a system role."""
    if conversation[0]["role"] != "system":
        return conversation
    system, user, *rest = conversation
    return [{"role": "user", "content": f"{system['content']}\n\n{user['content']}"}, *rest]
