"""Who is there: a person with a role, from the claims of a login or the headers of a proxy."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

VISITORS = "visitors"
"""The account that all who are not logged in share."""
_EMAIL = re.compile(r"[^@\s\x00-\x1f,;]{1,64}@[^@\s\x00-\x1f,;]{1,190}")


class Role(IntEnum):
    """What somebody is to this server; each may do what those before it may."""

    NOBODY = 0
    """Not on the list: sees how to log in, and nothing else."""
    VISITOR = 1
    """Sees what was computed before."""
    READER = 2
    """Reads their own texts too."""
    RUNNER = 3
    """Starts computations, within their quotas."""
    ADMIN = 4
    """Downloads, names services and datasets, and answers for what others do."""


@dataclass(frozen=True)
class Person:
    """Somebody in front of the explorer."""

    id: str
    """Who they are, as authors are written down: an e-mail address, or a session's mark."""
    role: Role
    """What they may do."""
    account: str
    """Whose quotas count; all visitors share one account."""
    local: bool = False
    """Whether this is the explorer of one person, who needs no name."""

    @property
    def author(self) -> str:
        """What is written beside what they make; "" on an explorer of one person."""
        return "" if self.local else self.id


LOCAL = Person(id="", role=Role.ADMIN, account="", local=True)
"""Whoever sits in front of an explorer that is not hosted."""


def visitor(session: str, role: Role) -> Person:
    """Somebody who is not logged in; `session` tells their browser tabs apart."""
    return Person(id=f"visitor {session}", role=role, account=VISITORS)


def email_of(text: Any) -> str:
    """An e-mail address in lower case, or "" for anything else."""
    address = text.strip().lower() if isinstance(text, str) else ""
    return address if _EMAIL.fullmatch(address) and address.isprintable() else ""


def email_of_claims(claims: Mapping[str, Any]) -> str:
    """The address of a login, or "" where it holds none or one that nobody has checked.

    A provider that lets people type their own address says `email_verified: false`; such an
    address would let anybody be anybody.
    """
    if claims.get("is_logged_in") is not True or claims.get("email_verified", True) is not True:
        return ""
    return email_of(claims.get("email"))


def groups_of(value: Any) -> tuple[str, ...]:
    """Names of groups, from a claim (a list) or a header (commas between them)."""
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, Sequence):
        return ()
    return tuple(it.strip() for it in value if isinstance(it, str) and it.strip())


def matches(rule: str, email: str, groups: Sequence[str]) -> bool:
    """Whether a line of the list means this person: an address, `@domain` or `group:name`."""
    if rule.startswith("group:"):
        return rule.removeprefix("group:").strip() in groups
    if rule.startswith("@"):
        return email.endswith(rule.lower())
    return bool(email) and email == rule.lower()
