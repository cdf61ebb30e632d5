"""What a model thought aloud, told from what it answered; nothing thought is ever an answer.

Services that know a model's marks report thoughts in a field of their own; all others leave them in
the text, marked in the way of the model: `<think>`, `[THINK]`, `◁think▷`, channels (harmony), … An
opening mark may be missing (the prompt's template ends with it) and so may a closing one (the
answer was cut while the model was thinking).
"""

import json
import re
from dataclasses import dataclass

_NAMES = r"think(?:ing)?|thoughts?|reasoning|reflection|scratchpad|analysis"
_MARKS = re.compile(
    rf"""
    (?!(?<=<)<[^<>]*>>)  # not <<think>>: so active tokens are marked in what explainers see
    (?:<|＜|&lt;)\s*(?P<tag_end>/?)\s*(?P<tag>(?:[\w-]+[:_])?(?:{_NAMES}))(?:\s[^<>]*)?(?:>|＞|&gt;)
    | \[\s*(?P<bracket_end>/?)\s*(?P<bracket>{_NAMES})\s*\]
    | ◁\s*(?P<triangle_end>/?)\s*(?P<triangle>{_NAMES})\s*▷
    | <\|\s*(?P<bar_end>/?)\s*(?P<bar>{_NAMES})\s*\|>
    | <\|(?P<phase>begin|start|end)_(?:of_)?(?P<phased>{_NAMES})\|>
    | (?P<details_open><details\s[^<>]*type\s*=\s*["']?reasoning[^<>]*>)
    | (?P<details_close></details\s*>)
    | (?P<gemma_open><\|channel>\s*thought) | (?P<gemma_close><channel\|>)
    | (?P<unused_open><unused94>) | (?P<unused_close><unused95>)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_QUOTES = ('""', "''", "``", "“”", "‘’", "«»", "「」")
_CHANNEL = "<|channel|>"
_CHANNEL_ENDS = re.compile(r"<\|(?:end|return|start|call)\|>")
_CHANNEL_HEAD = re.compile(r"\s*final\b[^<]*?(?:<\|constrain\|>[^<]*)?<\|message\|>|\s*final\b")
# The same channels where a service has dropped the special tokens and kept the words.
_BARE_CHANNEL = re.compile(r"\s*(?:assistant)?(?:analysis|commentary)(?=[A-Z\d\"'(\[])")
_BARE_FINAL = "assistantfinal"
_SPECIAL = r"<[|｜][^<>|｜\s]+[|｜]>"
_LEADING = re.compile(rf"^(?:\s*{_SPECIAL})+")
_TRAILING = re.compile(rf"(?<![\s'\"`(])(?:\s*\n\s*)?(?:{_SPECIAL}|</s>|<end_of_turn>)+\s*$")
_WRAPPED = re.compile(
    r"\s*<(answer|final|final_answer|response|output)>(.*)</\1>\s*", re.DOTALL | re.IGNORECASE
)


@dataclass(frozen=True)
class Split:
    """A text, taken apart."""

    visible: str
    """The answer, without marks; "" while the model was only thinking."""
    thought: str
    """All that it thought."""
    is_open: bool
    """Whether the text ends inside a thought, as that of an answer does which was cut."""


def split_thought(text: str) -> Split:
    """Answer and thoughts of a model's text.

    A closing mark without an opening one makes a thought of everything before it; an opening one
    without a closing one of everything after it. Marks inside marks of the same kind are counted;
    those in quotation marks, and those in an object that is the whole text, are spoken of.
    """
    if _is_object(text):
        return Split(text.strip(), "", False)
    visible, thoughts, is_open = _channels(text)
    if not is_open:
        visible, more, is_open = _marked(visible)
        thoughts += more
    thought = "\n".join(part.strip() for part in thoughts if part.strip())
    return Split(_bare(visible), thought, is_open)


def _is_object(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(text, strict=False), dict)
    except (ValueError, RecursionError):
        return False


def _channels(text: str) -> tuple[str, list[str], bool]:
    """Harmony: only what was said on the channel `final` is an answer."""
    if _CHANNEL in text:
        before, *parts = text.split(_CHANNEL)
        visible, thoughts = [], [before]
        for part in parts:
            head = _CHANNEL_HEAD.match(part)
            if head is None:
                thoughts.append(part)
                continue
            end = _CHANNEL_ENDS.search(part, head.end())
            visible.append(part[head.end() : end.start() if end else len(part)])
        return "\n".join(visible), thoughts, not visible
    if _BARE_CHANNEL.match(text):
        thought, final, visible_text = text.rpartition(_BARE_FINAL)
        return (visible_text, [thought], False) if final else ("", [text], True)
    return text, [], False


def _marked(text: str) -> tuple[str, list[str], bool]:
    visible: list[str] = []
    thoughts: list[str] = []
    family, depth, at = "", 0, 0
    for mark in _MARKS.finditer(text):
        if text[mark.start() - 1 : mark.start()] + text[mark.end() : mark.end() + 1] in _QUOTES:
            continue
        kind, closes = _kind(mark)
        piece = text[at : mark.start()]
        if depth == 0 and closes and kind != "details":
            thoughts += [*visible, piece]
            visible = []
        elif depth == 0 and not closes:
            visible.append(piece)
            family, depth = kind, 1
        elif depth and kind == family:
            depth += -1 if closes else 1
            thoughts.append(piece)
        else:
            continue
        at = mark.end()
    (thoughts if depth else visible).append(text[at:])
    return "\n".join(part for part in visible if part.strip()), thoughts, depth > 0


def _kind(mark: re.Match[str]) -> tuple[str, bool]:
    """(which marks these are, whether it is the closing one)."""
    for name in ("tag", "bracket", "triangle", "bar"):
        if mark[name] is not None:
            return f"{name} {mark[name].lower()}", bool(mark[f"{name}_end"])
    if mark["phased"] is not None:
        return f"phase {mark['phased'].lower()}", mark["phase"].lower() == "end"
    for name in ("details", "gemma"):
        if mark[f"{name}_open"] or mark[f"{name}_close"]:
            return name, mark[f"{name}_close"] is not None
    return "unused", mark["unused_close"] is not None


def _bare(text: str) -> str:
    """Without special tokens at its ends, and without tags around the whole answer."""
    text = _TRAILING.sub("", _LEADING.sub("", text)).strip()
    wrapped = _WRAPPED.fullmatch(text)
    return wrapped[2].strip() if wrapped else text
