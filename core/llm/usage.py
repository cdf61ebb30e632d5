"""What a service reports beside the answer: tokens that it bills, and log-probabilities."""

import math
import re
from collections.abc import Mapping
from typing import Any

from core.llm.answer import ChatAnswer, cleaned
from core.llm.prices import count_text

_ENDS = re.compile(r"(?:\s|<[^<>\s]*>)*")


def billed_tokens(usage: Any) -> tuple[int | None, int | None]:
    """(tokens sent, tokens received) as reported; None for what is not, or cannot be.

    Where the total is more than the two, thoughts were left out of the second and billed.
    """
    if not isinstance(usage, Mapping):
        return None, None
    prompt = _count(usage, "prompt_tokens", "input_tokens")
    completion = _count(usage, "completion_tokens", "output_tokens")
    total = _count(usage, "total_tokens")
    if prompt is not None and total is not None:
        completion = max(completion or 0, total - prompt)
    # No question has no tokens, and no answer either: such figures are fillers.
    return prompt or None, completion or None


def cost_of(answer: ChatAnswer, prompt: int, most: int) -> tuple[tuple[int, int], bool]:
    """(tokens sent and received, whether they are estimated), of an answer."""
    sent, received = answer.prompt_tokens, answer.completion_tokens
    said = most if answer.cut else min(most, count_text(f"{answer.raw}{answer.refusal}"))
    figures = (prompt if sent is None else sent, said if received is None else received)
    return figures, sent is None or received is None


def reasoning_tokens(usage: Any) -> int:
    """Tokens that were thought, shown or not; 0 where nothing is reported."""
    if not isinstance(usage, Mapping):
        return 0
    details = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    nested = _count(details, "reasoning_tokens") if isinstance(details, Mapping) else None
    return nested or _count(usage, "reasoning_tokens") or 0


def logprobs_of(
    reported: Any, text: str
) -> tuple[tuple[Mapping[str, float], ...], tuple[str, ...]]:
    """(alternatives, tokens) of `text` alone; nothing where they do not belong to it.

    Some services report those of the thoughts before it as well.
    """
    tokens, alternatives = _listed(reported)
    joined = "".join(tokens)
    begin = joined.rfind(text) if text else -1
    if begin < 0 or not _ENDS.fullmatch(joined, begin + len(text)):
        return (), ()
    at, kept, places = 0, [], []
    for token, some in zip(tokens, alternatives, strict=True):
        # A token that holds the end of a thought as well still holds the answer's beginning.
        if at + len(token) > begin:
            kept.append(token)
            places.append(some)
        at += len(token)
    return tuple(places), tuple(kept)


def _listed(reported: Any) -> tuple[list[str], list[dict[str, float]]]:
    """Tokens and alternatives, in today's form or in that of the older completions."""
    if not isinstance(reported, Mapping):
        return [], []
    content = reported.get("content")
    if isinstance(content, list):
        entries = [entry for entry in content if isinstance(entry, Mapping)]
        tokens = [cleaned(entry.get("token") or "") for entry in entries]
        return tokens, [_alternatives(entry) for entry in entries]
    listed, tops = reported.get("tokens"), reported.get("top_logprobs")
    if not isinstance(listed, list) or not isinstance(tops, list) or len(tops) != len(listed):
        return [], []
    found = [top if isinstance(top, Mapping) else {} for top in tops]
    numbers = [{cleaned(t): p for t, p in top.items() if _is_number(p)} for top in found]
    return [cleaned(token) for token in listed], numbers


def _alternatives(entry: Mapping[str, Any]) -> dict[str, float]:
    tops = entry.get("top_logprobs")
    listed = [top for top in tops if isinstance(top, Mapping)] if isinstance(tops, list) else []
    return {
        cleaned(top.get("token") or ""): float(top["logprob"])
        for top in listed
        if _is_number(top.get("logprob"))
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value: Any = usage.get(name)
        if _is_number(value) and math.isfinite(value) and 0 <= value < 1e12:
            return int(value)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:
            return int(value)
    return None
