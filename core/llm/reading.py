"""The one place where what a service sent becomes an answer.

Bodies are kept as they came, and read anew each time: whoever mends this file raises
`READER_VERSION`, and all answers that were ever paid for are read better, at no cost. Understood
are the completions of OpenAI and of all who imitate it (vLLM, llama.cpp, LM Studio, OpenRouter,
DeepSeek, Mistral, …), its Responses, Anthropic's messages, and Ollama's own form, each whole or as
a stream.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from core.llm.answer import ChatAnswer, cleaned
from core.llm.bodies import NO_ANSWER, NotACompletion, completion_of
from core.llm.thought import split_thought
from core.llm.usage import billed_tokens, logprobs_of, reasoning_tokens

READER_VERSION = 2
"""Raised whenever a body is read otherwise than before."""

_REASONS = {
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "limit": "length",
    "safety": "content_filter",
    "recitation": "content_filter",
    "prohibited_content": "content_filter",
    "blocklist": "content_filter",
    "sensitive": "content_filter",
    "refusal": "content_filter",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "completed": "stop",
    "abort": "error",
    "insufficient_system_resource": "error",
    "network_error": "error",
}
_THOUGHTS = (
    "reasoning_content",
    "reasoning",
    "thinking",
    "thinking_content",
    "thought",
    "thoughts",
    "reasoning_details",
)
_INSIDE = ("text", "content", "parts")
_IS_THOUGHT = ("think", "reason", "thought", "analysis", "summary")


def read_body(body: str) -> ChatAnswer:
    """The answer that a body holds.

    Raises:
        NotACompletion: there is none, such as in a web page, an error or half an object.
    """
    found = completion_of(body)
    choice = _choice(found)
    error = found.get("error") or (choice or {}).get("error")
    usage = found.get("usage")
    if error:
        raise NotACompletion("an error", error=error, usage=usage)
    if choice is None:
        raise NotACompletion(NO_ANSWER, error=_detail(found), usage=usage)
    if _reason(found, choice) == "error":
        raise NotACompletion("half an answer and an error", usage=usage)
    return _answer(found, choice)


def _answer(found: Mapping[str, Any], choice: Mapping[str, Any]) -> ChatAnswer:
    message = choice.get("message")
    if not isinstance(message, dict):
        message = choice["delta"] if isinstance(choice.get("delta"), dict) else choice
    told: dict[str, list[str]] = {"text": [], "thought": [], "refusal": []}
    raw_content = message.get("content")
    if raw_content is None:
        raw_content = choice.get("text") if "content" not in choice else None
    _sort(raw_content, "text", told)
    for name in _THOUGHTS:
        aside: dict[str, list[str]] = {"text": [], "thought": [], "refusal": []}
        _sort(message.get(name), "thought", aside)
        # Some services say the same in two fields.
        told["thought"] += [
            passage for passage in aside["thought"] if passage not in told["thought"]
        ]
    _sort(message.get("refusal"), "refusal", told)
    said = "".join(told["text"])
    split = split_thought(said)
    thought = "\n".join(passage for passage in (*told["thought"], split.thought) if passage.strip())
    text = cleaned(split.visible).strip()
    usage = found.get("usage") or _ollama_usage(found)
    hidden = bool(thought.strip()) or reasoning_tokens(usage) > 0
    prompt, completion = billed_tokens(usage)
    logprobs, tokens = logprobs_of(choice.get("logprobs"), text)
    apart = "".join(told["thought"])
    refusal = cleaned("".join(told["refusal"])).strip()
    return ChatAnswer(
        text=text,
        refusal=refusal,
        finish_reason=_reason(found, choice),
        prompt_tokens=prompt,
        completion_tokens=completion,
        logprobs=logprobs,
        tokens=tokens,
        thought=cleaned(thought).strip(),
        still_thinking=split.is_open or (not text and not refusal and hidden),
        tool=_tool(message),
        raw=cleaned((f"<think>{apart}</think>\n" if apart.strip() else "") + said).strip()
        or refusal,
    )


def _choice(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """The choice to read: of several the first that says something; None for none."""
    choices = found.get("choices")
    if isinstance(choices, dict):
        choices = [choices]
    if isinstance(choices, list):
        usable = [choice for choice in choices if isinstance(choice, dict) and choice]
        usable.sort(
            key=lambda choice: choice["index"] if isinstance(choice.get("index"), int) else 0
        )
        spoken = [choice for choice in usable if _has_text(choice)]
        return next(iter(spoken or usable), None)
    if isinstance(found.get("message"), dict):  # Ollama
        return {**found, "finish_reason": found.get("done_reason")}
    if found.get("type") == "message" and "content" in found:  # Anthropic
        return {"message": found, "finish_reason": found.get("stop_reason")}
    if isinstance(found.get("output"), list):  # OpenAI's Responses
        return {"message": {"content": found["output"]}}
    if isinstance(found.get("response"), str) and "done" in found:  # Ollama, without a conversation
        return {"text": found["response"], "finish_reason": found.get("done_reason")}
    return None


def _has_text(choice: Mapping[str, Any]) -> bool:
    message = choice.get("message") or choice.get("delta")
    content = message.get("content") if isinstance(message, dict) else message
    told: dict[str, list[str]] = {"text": [], "thought": [], "refusal": []}
    _sort(choice.get("text") if content is None else content, "text", told)
    return bool("".join(told["text"]).strip())


def _sort(content: Any, kind: str, told: dict[str, list[str]]) -> None:
    """Add what a content says to text, thoughts or refusals; `kind` is what it is unless told."""
    for part, said in _parts(content, kind):
        told[part].append(said)


def _parts(content: Any, kind: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    if isinstance(content, str):
        yield kind, content
    elif isinstance(content, list) and depth < 6:
        for part in content:
            yield from _parts(part, kind, depth + 1)
    elif isinstance(content, dict) and depth < 6:
        yield from _part(content, kind, depth)


def _part(content: dict[str, Any], kind: str, depth: int) -> Iterator[tuple[str, str]]:
    named = str(content.get("type") or "").lower()
    if any(sign in named for sign in _IS_THOUGHT) or content.get("thought") is True:
        kind = "thought"
    elif "refusal" in named:
        kind = "refusal"
    elif "tool" in named or "function" in named:
        return
    if not named and not any(content.get(key) for key in _INSIDE):
        # Some services hand out the object that the model wrote instead of its text.
        for name in _THOUGHTS:
            yield from _parts(content.get(name), "thought", depth + 1)
        rest = {key: content[key] for key in content if key not in _THOUGHTS}
        yield kind, json.dumps(rest, ensure_ascii=False) if rest else ""
        return
    for name in (*_INSIDE, *_THOUGHTS, "summary", "refusal"):
        if name in content:
            told = {"refusal": "refusal"}.get(name, kind if name in _INSIDE else "thought")
            yield from _parts(content[name], told, depth + 1)


def _reason(found: Mapping[str, Any], choice: Mapping[str, Any]) -> str:
    details = found.get("incomplete_details")
    incomplete = details.get("reason") if isinstance(details, dict) else None
    named = choice.get("finish_reason") or choice.get("stop_reason") or incomplete
    reason = str(named or choice.get("native_finish_reason") or found.get("status") or "").lower()
    native = str(choice.get("native_finish_reason") or "").lower()
    reason = _REASONS.get(reason, reason)
    # A router's "stop" may hide what the service behind it said.
    if reason == "stop" and _REASONS.get(native, native) in ("length", "content_filter"):
        return _REASONS.get(native, native)
    return cleaned(reason)


def _tool(message: Mapping[str, Any]) -> str:
    calls = message.get("tool_calls") or [message.get("function_call")]
    call = calls[0] if isinstance(calls, list) and calls else None
    if not isinstance(call, dict):
        return ""
    function = call.get("function")
    named = function.get("name") if isinstance(function, dict) else call.get("name")
    return cleaned(named or "unnamed")


def _ollama_usage(found: Mapping[str, Any]) -> dict[str, Any] | None:
    counts = {"prompt_tokens": "prompt_eval_count", "completion_tokens": "eval_count"}
    usage = {ours: found[theirs] for ours, theirs in counts.items() if theirs in found}
    return usage or None


def _detail(found: Mapping[str, Any]) -> Any:
    """What a body without choices says instead, where services put their errors."""
    return next(
        (found[key] for key in ("detail", "message", "errors", "msg") if found.get(key)), None
    )
