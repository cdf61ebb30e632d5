"""What each kind of job is: which right it takes, and whether somebody waits for it on a page.

The kind of a job is what stands before the first colon of its key. A kind that is not named here is
a long computation, which is the safe guess.
"""

from collections.abc import Mapping

from core.hosting.rights import Action

_KINDS: Mapping[str, tuple[Action, bool]] = {
    # What loading takes is asked by every page; what it may fetch, `core.asking` says.
    "plan": (Action.VIEW, True),
    "load": (Action.LOAD, False),
    "neuronpedia": (Action.FETCH_DESCRIPTIONS, False),
    "meaning": (Action.SERVER_KEY, True),
    "find-collect": (Action.VIEW, True),
    "find-meaning": (Action.TYPE_TEXT, True),
    # A text that somebody typed, or one latent of many.
    "gradients": (Action.TYPE_TEXT, True),
    "gradient-check": (Action.TYPE_TEXT, True),
    "circuit": (Action.TYPE_TEXT, True),
    "prompt-ablation": (Action.TYPE_TEXT, True),
    "latent-rows": (Action.TYPE_TEXT, True),
    "enrichment-weighted": (Action.TYPE_TEXT, True),
}
_LONG = (Action.RUN, False)


_ASKING = ("autointerp", "meaning", "neuronpedia")
_OPENED = (
    *("latent-index", "latent-about", "lens", "enrichment", "steering-scores", "dossier"),
    *("sae-quality", "absorption", "stitching", "meta-sae", "map", "heads", "induction"),
    *("patch-scoping", "patch-scoping-peaks"),
)


def kind_of(key: str) -> str:
    """The kind of a job."""
    return key.partition(":")[0]


def right_to(key: str) -> Action:
    """The right that starting this job takes."""
    return _KINDS.get(kind_of(key), _LONG)[0]


def is_short(key: str) -> bool:
    """Whether it is over in seconds."""
    return _KINDS.get(kind_of(key), _LONG)[1]


def looks(key: str) -> bool:
    """Whether pages ask for it each time they are opened, and mostly find it stored."""
    return kind_of(key) in _OPENED


def asks_services(key: str) -> bool:
    """Whether it asks services elsewhere: such a job is not run to see what is stored."""
    return kind_of(key) in _ASKING
