"""An answer as it is stored: the body as it came, and how it was asked for."""

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from core.llm.answer import ChatAnswer
from core.llm.reading import read_body
from core.llm.thought import split_thought

_MOST_PLAIN = 4000


@dataclass(frozen=True)
class StoredAnswer:
    """What was paid for; it is read anew each time, so a better reader costs nothing."""

    body: str
    """The body of the reply."""
    limit: int
    """Most tokens that the answer might have had."""
    adapted: tuple[str, ...] = ()
    """What the service had refused of the question, in sentences."""

    @cached_property
    def answer(self) -> ChatAnswer:
        """What it says. Raises NotACompletion, though not for what was ever stored."""
        return replace(read_body(self.body), limit=self.limit, adapted=self.adapted)

    def to_json(self) -> dict[str, Any]:
        """For the store. Long bodies, such as those with log-probabilities, are packed."""
        found: dict[str, Any] = {"limit": self.limit, "adapted": list(self.adapted)}
        if len(self.body) <= _MOST_PLAIN:
            return {"body": self.body, **found}
        packed = base64.b64encode(zlib.compress(self.body.encode())).decode("ascii")
        return {"packed": packed, **found}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "StoredAnswer":
        """What `to_json` gave."""
        body = stored.get("body")
        if body is None:
            body = zlib.decompress(base64.b64decode(stored["packed"])).decode()
        return cls(body, stored["limit"], tuple(stored["adapted"]))


def read_stored(stored: Mapping[str, Any]) -> ChatAnswer:
    """The answer that the store holds, also one of before bodies were stored."""
    if "body" in stored or "packed" in stored:
        return StoredAnswer.from_json(stored).answer
    old = ChatAnswer.from_json(stored)
    split = split_thought(old.text)
    return replace(
        old,
        text=split.visible,
        thought=split.thought,
        still_thinking=split.is_open,
        raw=old.text or old.refusal,
    )
