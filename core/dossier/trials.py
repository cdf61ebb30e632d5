"""Trials of hypotheses, kept: with what is never evicted, under the SAE's weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from core.dossier.trial import Trial
from core.store import Key, Store
from core.store.dataclass_codec import dataclass_codec
from core.store.process_lock import file_lock

MOST_TRIALS = 100
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Trials:
    """All trials of one latent."""

    trials: tuple[Trial, ...] = ()
    """The latest first."""


_CODEC = dataclass_codec(Trials)


def save_trial(store: Store, sae_fingerprint: str, latent: int, trial: Trial) -> tuple[Trial, ...]:
    """Keep a trial as the latest; all of them, the latest first.

    The same hypothesis, judged by the same judge for the same reader, replaces what was there.
    """
    with _one_at_a_time(store):
        others = [
            it for it in load_trials(store, sae_fingerprint, latent) if _name(it) != _name(trial)
        ]
        kept = (trial, *others)[:MOST_TRIALS]
        store.put(_key(sae_fingerprint, latent), Trials(kept), _CODEC, paid=True)
    return kept


def load_trials(store: Store, sae_fingerprint: str, latent: int) -> tuple[Trial, ...]:
    """All trials, the latest first."""
    found = store.get(_key(sae_fingerprint, latent), _CODEC, paid=True)
    return () if found is None else found.trials


def _name(trial: Trial) -> tuple[str, ...]:
    return trial.who, trial.kind, trial.hypothesis, trial.judge


def _key(sae_fingerprint: str, latent: int) -> Key:
    return Key("dossier-trials", _VERSION, {"sae": sae_fingerprint, "latent": latent})


@contextmanager
def _one_at_a_time(store: Store) -> Iterator[None]:
    with file_lock(store.directory / "locks" / "dossier-trials.lock"):
        yield
