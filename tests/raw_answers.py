"""Bodies as services really send them, with what is to be read from each.

Every body says the same where it is an answer (`ANSWER`), and holds `SECRET` where it thinks.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ANSWER = "This neuron activates on the word 'cat'."
SECRET = "This neuron activates on SECRET dogs."
USAGE = {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140}


@dataclass(frozen=True)
class Sent:
    """One body and its meaning."""

    name: str
    """Who sends such."""
    body: bytes
    """What is sent, with status 200."""
    text: str = ANSWER
    """The answer; "" for none."""
    problems: tuple[str, ...] = ()
    """Why it is none."""
    content_type: str = "application/json"
    """What the body is said to be."""
    failed: str = ""
    """What the error says where there is no completion at all."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the answer."""


def completion(content: Any, finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    """OpenAI's body."""
    usage = message.pop("usage", USAGE)
    choice = message.pop("choice", {})
    said = {"role": "assistant", "content": content, **message}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": said, "finish_reason": finish, **choice}],
        "usage": usage,
    }


def stream(*deltas: dict[str, Any], finish: str = "stop", end: bool = True) -> bytes:
    """The same as server-sent events."""
    lines = [": OPENROUTER PROCESSING", ""]
    for delta in deltas:
        part = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}
        lines += [f"data: {json.dumps(part)}", ""]
    if end:
        last = {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "usage": USAGE}
        lines += [f"data: {json.dumps(last)}", "", "data: [DONE]", ""]
    return "\n".join(lines).encode()


def _sent(name: str, content: Any, finish: str | None = "stop", **more: Any) -> Sent:
    wanted = {it: more.pop(it) for it in ("text", "problems", "fields") if it in more}
    return Sent(name, json.dumps(completion(content, finish, **more)).encode(), **wanted)


def _json(name: str, body: Any, **wanted: Any) -> Sent:
    return Sent(name, json.dumps(body).encode(), **wanted)


_CUT = {"text": "", "problems": ("thinking", "cut", "empty")}
_HELD = {"text": "", "problems": ("thinking", "empty")}
_FINAL = f"<|start|>assistant<|channel|>final<|message|>{ANSWER}<|return|>"

THOUGHTS = [
    _sent("Qwen through vLLM without a parser", f"<think>\n{SECRET}\n</think>\n\n{ANSWER}"),
    _sent("DeepSeek distilled, the template opens", f"{SECRET}\n</think>\n\n{ANSWER}"),
    _sent("an empty thought (Qwen, /no_think)", f"<think>\n\n</think>\n\n{ANSWER}"),
    _sent("cut in a thought", f"<think>\nOkay, {SECRET}", "length", **_CUT),
    _sent("stopped in a thought", f"<think>\n{SECRET}", **_HELD),
    _sent("nothing after the thought", f"<think>{SECRET}</think>", **_HELD),
    _sent("two thoughts", f"<think>{SECRET}</think><think>{SECRET}</think>{ANSWER}"),
    _sent("a thought in a thought", f"<think>a<think>b</think>{SECRET}</think>{ANSWER}"),
    _sent("cut in the outer thought", f"<think>a<think>b</think>{SECRET}", "length", **_CUT),
    _sent("another mark inside", f"<think>a<reasoning>b</reasoning>{SECRET}", "length", **_CUT),
    _sent("a thought after the answer", f"{ANSWER}\n<think>{SECRET}</think>"),
    _sent("capitals and attributes", f'<THINK duration="3">{SECRET}</Think>{ANSWER}'),
    _sent("Claude-like tags", f"<thinking>{SECRET}</thinking>\n{ANSWER}"),
    _sent("reasoning tags", f"<reasoning>{SECRET}</reasoning>\n<answer>{ANSWER}</answer>"),
    _sent("Magistral as text", f"[THINK]{SECRET}[/THINK]{ANSWER}"),
    _sent("Seed-OSS", f"<seed:think>{SECRET}</seed:think>{ANSWER}"),
    _sent("Kimi", f"◁think▷{SECRET}◁/think▷{ANSWER}"),
    _sent("Kimi, cut", f"◁think▷{SECRET}", "length", **_CUT),
    _sent("LongCat", f"<longcat_think>{SECRET}</longcat_think>{ANSWER}"),
    _sent("Cohere", f"<|START_THINKING|>{SECRET}<|END_THINKING|><|START_RESPONSE|>{ANSWER}"),
    _sent("OpenThinker", f"<|begin_of_thought|>{SECRET}<|end_of_thought|>{ANSWER}"),
    _sent("Gemma", f"<|channel>thought\n{SECRET}<channel|>{ANSWER}"),
    _sent("MedGemma", f"<unused94>thought\n{SECRET}<unused95>{ANSWER}"),
    _sent("Open WebUI", f'<details type="reasoning" done="true">{SECRET}</details>{ANSWER}'),
    _sent("escaped tags", f"&lt;think&gt;{SECRET}&lt;/think&gt;{ANSWER}"),
    _sent("gpt-oss raw", f"<|channel|>analysis<|message|>{SECRET}<|end|>{_FINAL}"),
    _sent(
        "gpt-oss without heads", f"<|channel|>analysis{SECRET}<|channel|>final<|message|>{ANSWER}"
    ),
    _sent("gpt-oss, cut", f"<|channel|>analysis<|message|>{SECRET}", "length", **_CUT),
    _sent("gpt-oss, opening eaten", f"{SECRET}<|end|>{_FINAL}"),
    _sent("gpt-oss without special tokens", f"analysis{SECRET}assistantfinal{ANSWER}"),
    _sent("the same, cut", f"analysis{SECRET}", "length", **_CUT),
    _sent("DeepSeek", ANSWER, reasoning_content=SECRET, fields={"thought": SECRET}),
    _sent("OpenRouter", ANSWER, reasoning=SECRET, fields={"thought": SECRET}),
    _sent(
        "OpenRouter in detail",
        ANSWER,
        reasoning_details=[{"type": "reasoning.text", "text": SECRET}],
    ),
    _sent("vLLM, all of it in the thought", None, reasoning_content=SECRET, **_HELD),
    _sent("DeepSeek, cut", "", "length", reasoning_content=SECRET, **_CUT),
    _sent(
        "OpenAI's o-series, cut, thoughts unseen",
        "",
        "length",
        usage={**USAGE, "completion_tokens_details": {"reasoning_tokens": 40}},
        **_CUT,
    ),
    _sent(
        "Magistral in parts",
        [
            {"type": "thinking", "thinking": [{"type": "text", "text": SECRET}]},
            {"type": "text", "text": ANSWER},
        ],
    ),
    _sent(
        "parts of text",
        [{"type": "text", "text": ANSWER[:9]}, {"type": "text", "text": ANSWER[9:]}],
    ),
    _sent("a list of strings", [ANSWER[:9], ANSWER[9:]]),
    _sent("one part, not in a list", {"type": "text", "text": ANSWER}),
    _json(
        "Anthropic",
        {
            "type": "message",
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": SECRET, "signature": "x"},
                {"type": "text", "text": ANSWER},
            ],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 100, "output_tokens": 40},
        },
    ),
    _json(
        "Anthropic, cut",
        {
            "type": "message",
            "content": [{"type": "thinking", "thinking": SECRET}],
            "stop_reason": "max_tokens",
            "usage": {"input_tokens": 100, "output_tokens": 40},
        },
        **_CUT,
    ),
    _json(
        "Ollama's own",
        {
            "message": {"role": "assistant", "content": ANSWER, "thinking": SECRET},
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 100,
            "eval_count": 40,
        },
    ),
    Sent(
        "Ollama's own, in lines",
        b"\n".join(
            json.dumps(it).encode()
            for it in (
                {"message": {"role": "assistant", "content": "", "thinking": SECRET}},
                {"message": {"role": "assistant", "content": ANSWER[:7]}, "done": False},
                {"message": {"content": ANSWER[7:]}, "done": False},
                {"done": True, "done_reason": "stop", "prompt_eval_count": 100, "eval_count": 40},
            )
        ),
        content_type="application/x-ndjson",
    ),
    _json(
        "OpenAI's Responses",
        {
            "object": "response",
            "status": "completed",
            "output": [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": SECRET}]},
                {"type": "message", "content": [{"type": "output_text", "text": ANSWER}]},
            ],
            "usage": {"input_tokens": 100, "output_tokens": 40},
        },
    ),
    Sent(
        "a stream, unasked",
        stream({"reasoning_content": SECRET}, {"content": ANSWER[:5]}, {"content": ANSWER[5:]}),
        content_type="text/event-stream",
    ),
    Sent("a stream, cut", stream({"content": f"<think>{SECRET}"}, finish="length"), **_CUT),
]

ANSWERS = [
    _sent("OpenAI", ANSWER),
    _sent("llama.cpp", ANSWER, usage=None, problems=("no usage",)),
    _sent("figures of 0", ANSWER, usage=dict.fromkeys(USAGE, 0), problems=("no usage",)),
    _sent("no finish reason", ANSWER, None),
    _sent("a filter", "", "content_filter", text="", problems=("filtered", "empty")),
    _sent("a filter after half", ANSWER, "SAFETY", problems=("filtered",)),
    _sent("cut", ANSWER[:20], "length", text=ANSWER[:20], problems=("cut",)),
    _sent("Mistral, cut", ANSWER[:20], "model_length", text=ANSWER[:20], problems=("cut",)),
    _sent("Gemini, cut", ANSWER[:20], "MAX_TOKENS", text=ANSWER[:20], problems=("cut",)),
    _sent(
        "a router hides the cut",
        ANSWER[:20],
        choice={"native_finish_reason": "MAX_TOKENS"},
        text=ANSWER[:20],
        problems=("cut",),
    ),
    _sent(
        "a tool",
        None,
        "tool_calls",
        tool_calls=[{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        text="",
        problems=("tool", "empty"),
        fields={"tool": "f"},
    ),
    _sent("a refusal", None, refusal="No.", text="", problems=("refused", "empty")),
    _sent(
        "a refusal as a part",
        [{"type": "refusal", "refusal": "No."}],
        text="",
        problems=("refused", "empty"),
        fields={"refusal": "No."},
    ),
    _sent("nothing", None, text="", problems=("empty",)),
    _sent("blanks", " \n ", text="", problems=("empty",)),
    _sent("an end-of-turn token", f"{ANSWER}<|im_end|>"),
    _sent("an object instead of its text", {"explanation": "x"}, text='{"explanation": "x"}'),
    _json("legacy text", {"choices": [{"text": ANSWER, "finish_reason": "stop"}], "usage": USAGE}),
    _json(
        "several choices, the first one empty",
        {
            "choices": [
                {"index": 0, "message": {"content": ""}, "finish_reason": "stop"},
                {"index": 1, "message": {"content": ANSWER}, "finish_reason": "stop"},
            ],
            "usage": USAGE,
        },
    ),
    _json(
        "choices out of order",
        {
            "choices": [
                {"index": 1, "message": {"content": "other"}, "finish_reason": "stop"},
                {"index": 0, "message": {"content": ANSWER}, "finish_reason": "stop"},
            ],
            "usage": USAGE,
        },
    ),
    _json("a chunk, unasked", {"choices": [{"delta": {"content": ANSWER}}], "usage": USAGE}),
    _json(
        "thoughts left out of the figures",
        completion(
            ANSWER, usage={"prompt_tokens": 100, "completion_tokens": 9, "total_tokens": 940}
        ),
        fields={"completion_tokens": 840},
    ),
    Sent("a wrong content type", json.dumps(completion(ANSWER)).encode(), content_type="text/html"),
    Sent("blanks before", b"\n   \n" + json.dumps(completion(ANSWER)).encode()),
    Sent("a byte order mark", b"\xef\xbb\xbf" + json.dumps(completion(ANSWER)).encode()),
    Sent("UTF-16", json.dumps(completion(ANSWER)).encode("utf-16")),
    _json("JSON in a string", json.dumps(completion(ANSWER))),
    _json("a list of one", [completion(ANSWER)]),
]

NO_COMPLETIONS = [
    Sent("a page", b"<!doctype html><html>hi</html>", content_type="text/html", failed="web page"),
    Sent("Ollama's root", b"Ollama is running", content_type="text/plain", failed="not a JSON"),
    Sent("an empty body", b"", failed="an empty body"),
    Sent("half a body", json.dumps(completion(ANSWER)).encode()[:90], failed="breaks off"),
    Sent("half a stream", stream({"content": ANSWER}, end=False), failed="breaks off"),
    _json("no choices", {"choices": [], "usage": USAGE}, failed="no answer"),
    _json("null choices", {"choices": None}, failed="no answer"),
    _json("a choice that is null", {"choices": [None]}, failed="no answer"),
    _json("a number", 3, failed="not a JSON object"),
    _json("an error in text", {"error": "the model is loading"}, failed="an error"),
    _json("LM Studio", {"error": "Unexpected endpoint or method."}, failed="status 404"),
    _json(
        "OpenRouter, another's error",
        {"error": {"code": 502, "message": "Provider returned error"}},
        failed="status 502",
    ),
    _json("OpenRouter, no credit", {"error": {"code": 402, "message": "x"}}, failed="credit"),
    _json("Gemini", [{"error": {"code": 400, "message": "API key not valid."}}], failed="the key"),
    _json(
        "an error in the middle",
        {"choices": [{"message": {"content": ANSWER}, "error": {"code": 503, "message": "x"}}]},
        failed="status 503",
    ),
    _json("DeepSeek is full", completion(ANSWER, "insufficient_system_resource"), failed="half an"),
    _json("FastAPI", {"detail": "Not Found"}, failed="status 404"),
]

ALL = [*THOUGHTS, *ANSWERS, *NO_COMPLETIONS]
