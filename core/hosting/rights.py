"""What each role may do: one table, and one question that pages and jobs ask of it."""

from collections.abc import Iterable, Mapping
from enum import Enum

from core.hosting.people import Person, Role


class Action(Enum):
    """Everything that somebody can do here, in words that follow "may"."""

    VIEW = "see what was computed before"
    LOAD = "load a model that is on this machine"
    TYPE_TEXT = "have a text of their own read"
    RUN = "start a computation"
    UPLOAD = "bring a file or a pasted text"
    FETCH_DESCRIPTIONS = "fetch published descriptions"
    WRITE = "write notes, lists and descriptions"
    CHANGE_OWN = "change or remove what they wrote"
    CANCEL_OWN = "stop a computation that they started"
    OWN_KEY = "ask a chat model with a key of their own"
    SERVER_KEY = "spend the key of this server"
    DOWNLOAD = "download models and SAEs"
    NAME_ENDPOINT = "name the address of a service"
    NAME_DATASET = "have a dataset of the hub read"
    CHANGE_OTHERS = "change or remove what others wrote"
    CANCEL_OTHERS = "stop computations that others started"
    SEE_PEOPLE = "see who uses this server"
    ADMINISTER = "unload models and drain the server"


_LEAST: Mapping[Action, Role] = {
    Action.VIEW: Role.VISITOR,
    Action.LOAD: Role.VISITOR,
    Action.TYPE_TEXT: Role.READER,
    Action.CANCEL_OWN: Role.VISITOR,
    Action.RUN: Role.RUNNER,
    Action.UPLOAD: Role.RUNNER,
    Action.FETCH_DESCRIPTIONS: Role.RUNNER,
    Action.WRITE: Role.RUNNER,
    Action.CHANGE_OWN: Role.RUNNER,
    Action.OWN_KEY: Role.RUNNER,
    Action.SERVER_KEY: Role.RUNNER,
    Action.DOWNLOAD: Role.ADMIN,
    Action.NAME_ENDPOINT: Role.ADMIN,
    Action.NAME_DATASET: Role.ADMIN,
    Action.CHANGE_OTHERS: Role.ADMIN,
    Action.CANCEL_OTHERS: Role.ADMIN,
    Action.SEE_PEOPLE: Role.ADMIN,
    Action.ADMINISTER: Role.ADMIN,
}
_NAMES = {Role.VISITOR: "a visitor", Role.READER: "a reader", Role.RUNNER: "a runner"}
_NEEDED = {Role.VISITOR: "visitors", Role.READER: "readers", Role.RUNNER: "runners"}


class NotAllowed(ValueError):
    """Somebody may not do something; the message is a sentence that says who may."""


def allowed(person: Person, action: Action) -> bool:
    """Whether this person may do this."""
    return person.role >= _LEAST[action]


def require(person: Person, action: Action) -> None:
    """Raises NotAllowed, with who may instead."""
    if allowed(person, action):
        return
    if person.role is Role.NOBODY:
        raise NotAllowed("You are not on the list of this server; ask its administrator.")
    who = _NEEDED.get(_LEAST[action], "administrators")
    raise NotAllowed(
        f"Only {who} of this server may {action.value}, and you are {_NAMES[person.role]}; ask its "
        "administrator."
    )


def change(person: Person, author: str) -> Action:
    """What changing something that `author` wrote is; of old things nobody is known as author."""
    own = person.local or (bool(author) and author == person.author)
    return Action.CHANGE_OWN if own else Action.CHANGE_OTHERS


def cancel(person: Person, owners: Iterable[str]) -> Action:
    """What stopping a computation of `owners` is."""
    own = person.local or person.id in set(owners)
    return Action.CANCEL_OWN if own else Action.CANCEL_OTHERS


def table() -> dict[Action, tuple[Role, ...]]:
    """For each action the roles that may do it, for the documentation and the administrator."""
    return {it: tuple(role for role in Role if role >= least) for it, least in _LEAST.items()}
