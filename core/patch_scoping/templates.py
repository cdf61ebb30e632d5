"""Questions that let a model say what stands in the placeholder's place."""

from dataclasses import dataclass
from typing import Any

from core.models import Model
from core.patch_scoping.prompt import ScopePrompt, default_placeholder, scope_prompt


@dataclass(frozen=True)
class Template:
    """A question, and the answer's beginning that is put in the model's mouth.

    `{X}` stands for the placeholder in both.
    """

    name: str
    """How it is called in choices and tables."""
    question: str
    """What the user asks."""
    prefill: str
    """Beginning of the model's answer; may be empty where a question mentions the word."""
    stop: str | None
    """Text that ends the answer; None where it ends by itself."""


TEMPLATES: dict[str, Template] = {
    template.name: template
    for template in (
        Template(
            "definition",
            'What is the meaning of the word "{X}"?',
            'The meaning of the word "{X}" is "',
            '"',
        ),
        Template(
            "repeat",
            'Repeat "{X}" four times exactly as it is written.',
            '1. "{X}"\n2. "{X}"\n3. "{X}"\n4. "',
            '"',
        ),
        Template(
            "few words",
            'Describe the word "{X}" in a few words.',
            'In a few words, "{X}" is "',
            '"',
        ),
        Template("free", 'What comes to mind when you read "{X}"?', "", None),
    )
}
"""Ready-made questions by name; "definition" and "repeat" are those of the literature."""


def template_text(
    model: Model, template: Template, *, placeholder: str | None = None, chat: bool | None = None
) -> str:
    """The whole prompt: the question as the tokenizer's chat template puts it, and the prefill.

    Models without a chat template get question and prefill on lines of their own. `chat` says
    whether to use the chat template; by default where there is one.

    Raises:
        ValueError: `chat` without a template in the tokenizer.
    """
    tokenizer: Any = model.tokenizer
    name = default_placeholder(tokenizer) if placeholder is None else placeholder
    question, prefill = (
        part.replace("{X}", name) for part in (template.question, template.prefill)
    )
    has_chat = bool(getattr(tokenizer, "chat_template", None))
    if chat and not has_chat:
        raise ValueError("The model's tokenizer has no chat template; use chat=False.")
    if chat is False or not has_chat:
        return f"{question}\n{prefill}"
    messages = [{"role": "user", "content": question}]
    asked: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return asked + prefill


def template_prompt(
    model: Model,
    template: Template | str = "definition",
    *,
    placeholder: str | None = None,
    chat: bool | None = None,
) -> ScopePrompt:
    """The template's prompt, tokenized, with the placeholder's positions.

    Raises:
        ValueError: an unknown template; else as `template_text` and `scope_prompt`.
    """
    if isinstance(template, str):
        if template not in TEMPLATES:
            raise ValueError(f"Unknown template {template!r}; use {', '.join(TEMPLATES)}.")
        template = TEMPLATES[template]
    name = default_placeholder(model.tokenizer) if placeholder is None else placeholder
    text = template_text(model, template, placeholder=name, chat=chat)
    return scope_prompt(model, text, placeholder=name)
