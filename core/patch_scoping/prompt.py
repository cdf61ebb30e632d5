"""A question as the model's tokens, and where the placeholder stands in them.

Positions are found by characters, not by token ids: a tokenizer whose `unk_token` is also its BOS
(GPT-2's) would otherwise have its BOS replaced, and a placeholder that is split into several tokens
would never be found.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from core.corpus.bos import token_in_front
from core.models import Model, check_tokens, context_length
from core.tokens import row_texts

FALLBACK_PLACEHOLDER = "X"
"""Stands for the latent where the tokenizer has no token of its own for unknown words."""


@dataclass(frozen=True)
class ScopePrompt:
    """A prompt as the model reads it, with the places that an injected vector takes."""

    text: str
    """What was asked for, without a BOS that is put in front."""
    tokens: tuple[int, ...]
    """Token ids that the model sees, BOS included where the model has one."""
    placeholder: str
    """Text that stands for the latent; empty when nothing is to be replaced."""
    occurrences: tuple[tuple[int, ...], ...]
    """Positions in `tokens` of each occurrence of the placeholder: one, or several if it splits."""
    notes: tuple[str, ...] = ()
    """What a reader should know about these positions, in sentences."""

    @property
    def positions(self) -> tuple[int, ...]:
        """All positions that are replaced, in order."""
        return tuple(sorted({place for places in self.occurrences for place in places}))

    def unpatched(self) -> "ScopePrompt":
        """The same prompt in which nothing is replaced."""
        return ScopePrompt(self.text, self.tokens, "", ())


def default_placeholder(tokenizer: Any) -> str:
    """The tokenizer's unknown token if it is one token and means nothing else, otherwise "X".

    Where `unk_token` is also BOS or EOS, it would tell the model that a text ends there.
    """
    unknown = getattr(tokenizer, "unk_token", None)
    if not unknown or unknown in (tokenizer.bos_token, tokenizer.eos_token):
        return FALLBACK_PLACEHOLDER
    ids = tokenizer(unknown, add_special_tokens=False)["input_ids"]
    return unknown if len(ids) == 1 else FALLBACK_PLACEHOLDER


def scope_prompt(model: Model, text: str, *, placeholder: str | None = None) -> ScopePrompt:
    """`text` as the tokens the model sees, with the positions of the placeholder.

    By default the placeholder is the tokenizer's `unk_token` where `text` has it, otherwise
    `default_placeholder`. One made of letters counts only where it is a word of its own. BOS is
    put in front where the model is used with one, unless `text` begins with it already.

    Raises:
        ValueError: no tokenizer, a prompt without the placeholder or longer than the context.
    """
    tokenizer: Any = model.tokenizer
    if tokenizer is None:
        raise ValueError("The model has no tokenizer; load it with one to give it prompts.")
    if placeholder is None:
        unknown = tokenizer.unk_token
        placeholder = unknown if unknown and unknown in text else default_placeholder(tokenizer)
    spans = _occurrences(text, placeholder)
    if not spans:
        raise ValueError(
            f"The placeholder {placeholder!r} does not occur in the prompt {_short(text)!r}; put "
            "it where the latent should stand, or name another one with placeholder=."
        )
    tokens = prompt_tokens(model, text)
    extents = _extents(tokenizer, text, tokens)
    occurrences = tuple(
        tuple(i for i, (a, b) in enumerate(extents) if a < end and b > start)
        for start, end in spans
    )
    if not all(occurrences):
        raise ValueError(
            f"The tokenizer drops the placeholder {placeholder!r}; name another with placeholder=."
        )
    notes = _notes(text, placeholder, spans, occurrences, extents)
    return ScopePrompt(text, tuple(tokens), placeholder, occurrences, notes)


def prompt_tokens(model: Model, text: str) -> list[int]:
    """Token ids of `text` with exactly one BOS in front, if the model is used with one.

    Raises ValueError when they are more than the model's context.
    """
    # Not model.to_tokens, which leaves behind the text what some tokenizers close it with.
    tokenizer: Any = model.tokenizer
    tokens: list[int] = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    bos = token_in_front(model)
    if bos is not None and model.cfg.default_prepend_bos and tokens[:1] != [bos]:
        tokens.insert(0, bos)
    if len(tokens) > context_length(model):
        raise ValueError(
            f"The prompt has {len(tokens)} tokens and the model takes {context_length(model)}; "
            "shorten it."
        )
    check_tokens(model, torch.tensor([tokens]))
    return tokens


def _occurrences(text: str, placeholder: str) -> list[tuple[int, int]]:
    if not placeholder:
        raise ValueError("The placeholder is empty; give the text that stands for the latent.")
    before = r"(?<!\w)" if re.match(r"\w", placeholder) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", placeholder) else ""
    found = re.finditer(f"{before}{re.escape(placeholder)}{after}", text)
    return [match.span() for match in found]


def _extents(tokenizer: Any, text: str, tokens: Sequence[int]) -> list[tuple[int, int]]:
    """First and last+1 character of each token; (0, 0) for tokens that are not from `text`."""
    if tokenizer.is_fast:
        plain = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, offsets = plain["input_ids"], [tuple(pair) for pair in plain["offset_mapping"]]
    else:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        parts = row_texts(tokenizer, ids).parts
        # Some put a space in front of every text.
        ahead = 1 if "".join(parts) == f" {text}" else 0
        offsets = _spans(parts, ahead)
        if "".join(parts)[ahead:] != text:
            raise ValueError(
                "This tokenizer changes the prompt so that places in it cannot be followed; use "
                "its fast version."
            )
    for start in range(len(tokens) - len(ids) + 1):
        if list(tokens[start : start + len(ids)]) == list(ids):
            rest = len(tokens) - len(ids) - start
            return [(0, 0)] * start + offsets + [(0, 0)] * rest
    raise ValueError(f"The model's tokens of {_short(text)!r} are not those of its tokenizer.")


def _spans(parts: Sequence[str], ahead: int) -> list[tuple[int, int]]:
    """First and last+1 character of each token, `ahead` characters cut off in front."""
    spans: list[tuple[int, int]] = []
    at = -ahead
    for part in parts:
        if part or not spans:
            spans.append((max(0, at), at + len(part)))
            at += len(part)
        else:  # it has a part of the same character
            spans.append(spans[-1])
    return spans


def _notes(
    text: str,
    placeholder: str,
    spans: Sequence[tuple[int, int]],
    occurrences: Sequence[tuple[int, ...]],
    extents: Sequence[tuple[int, int]],
) -> tuple[str, ...]:
    notes = []
    if len(spans) > 1:
        notes.append(f"{placeholder!r} occurs {len(spans)} times; every occurrence is replaced.")
    longest = max(map(len, occurrences))
    if longest > 1:
        notes.append(
            f"The tokenizer splits {placeholder!r} into {longest} tokens; each is replaced by the "
            "same vector. One of a single token reads better."
        )
    for (start, end), places in zip(spans, occurrences, strict=True):
        first, last = extents[places[0]][0], extents[places[-1]][1]
        beside = (text[first:start] + text[end:last]).strip()
        if beside:
            notes.append(
                f"A token joins {placeholder!r} with {beside!r}, which is replaced as well."
            )
            break
    return tuple(notes)


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"


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
