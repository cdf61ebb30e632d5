"""A dossier from beginning to end: parts in order, each kept at once, under leases."""

import platform
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

from core.dossier.beside_runs import read_made_elsewhere
from core.dossier.request import PARTS, TITLES, DossierRequest
from core.dossier.result import Dossier
from core.dossier.shared import LeaseOf, Shared
from core.dossier.stored import (
    PART,
    content_of,
    keep_about,
    keep_section,
    note_not_run,
    open_dossier,
    point_to,
    stored_section,
)
from core.fit_check.on_text import FitRequest, run_fit_check
from core.fit_check.result import FitCheck
from core.store import Store
from core.usual_time import measured, usual_seconds

_PACKAGES = ("torch", "transformer-lens", "sae-lens", "numpy", "scipy", "pandas")


def run_dossier(
    lease_of: LeaseOf,
    store: Store,
    request: DossierRequest,
    *,
    parts: Sequence[str] = PARTS,
    shared: Shared | None = None,
    on_part: Callable[[str], None] | None = None,
) -> Dossier:
    """The dossier of a latent; parts that the store has are not made again.

    A part that cannot be made says why in `Dossier.not_run`, and the others go on.

    Args:
        lease_of: gives leases of models and SAEs by name; all report to one progress.
        store: where each part is kept as soon as it is done.
        request: which latent, and with what.
        parts: which of them are wanted.
        shared: what the latents of the SAE have in common, where several are looked at.
        on_part: called with the name of each part once it is done or given up.

    Raises:
        ValueError: an unknown part, or a latent that the SAE does not have.
        JobCancelled: through the leases' progress; what is done is kept.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"There is no part {unknown[0]!r}; choose of {', '.join(PARTS)}.")
    shared = shared or Shared(lease_of, store, request)
    shared.request = request
    with shared.lease.turn() as (_, (sae, *_)):
        d_sae = int(sae.cfg.d_sae)
    if request.latent >= d_sae:
        raise ValueError(
            f"There is no latent {request.latent}; this SAE has {d_sae:,}, so choose 0 to "
            f"{d_sae - 1:,}."
        )
    shared.lease.progress.plan(*[_expected(store, request, part) or 1.0 for part in parts])
    for number, part in enumerate(parts):
        if number:
            shared.lease.progress.next_part()
        shared.lease.progress.update(number, len(parts), unit="parts", message=f"{TITLES[part]}…")
        _make(shared, store, request, part)
        if on_part is not None:
            on_part(part)
    shared.once("made elsewhere", lambda: read_made_elsewhere(lease_of, store, request))
    keep_about(store, request, shared.once("fit", lambda: _fit(shared)), _versions(shared))
    return open_dossier(store, request)


def run_dossiers(
    lease_of: LeaseOf,
    store: Store,
    requests: Sequence[DossierRequest],
    *,
    parts: Sequence[str] = PARTS,
    on_latent: Callable[[Dossier], None] | None = None,
) -> list[Dossier]:
    """The dossiers of several latents of one SAE; what they have in common is made once.

    Raises as `run_dossier`, and ValueError for no latents or latents of several SAEs.
    """
    if not requests:
        raise ValueError("There is no latent to look at; choose one or more.")
    if len({(it.model, it.sae, it.corpus.digest, it.tokens) for it in requests}) > 1:
        raise ValueError("These latents are of several SAEs or texts; look at one SAE at a time.")
    shared = Shared(lease_of, store, requests[0])
    shared.batch = tuple(dict.fromkeys(it.latent for it in requests))
    found = []
    for request in requests:
        found.append(run_dossier(lease_of, store, request, parts=parts, shared=shared))
        if on_latent is not None:
            on_latent(found[-1])
    return found


def expected_seconds(store: Store, request: DossierRequest, parts: Sequence[str]) -> float | None:
    """How long these parts take, as the last times on this machine; None where one is not known."""
    known = [_expected(store, request, part) for part in parts]
    return None if None in known else sum(it for it in known if it is not None)


def _expected(store: Store, request: DossierRequest, part: str) -> float | None:
    return usual_seconds(store, _work(request, part))


def _work(request: DossierRequest, part: str) -> str:
    return f"dossier-{part}:{request.model}:{request.tokens}"


def _make(shared: Shared, store: Store, request: DossierRequest, part: str) -> None:
    try:
        content = content_of(shared, request, part)
        section = stored_section(store, part, content)
        if section is None:
            with measured(store, _work(request, part)):
                section = PART[part].make(shared, request.latent)
            keep_section(store, request, part, content, section)
        else:
            point_to(store, request, part, content)
    except ValueError as error:
        note_not_run(store, request, part, str(error))


def _fit(shared: Shared) -> FitCheck | None:
    request = shared.request
    wanted = FitRequest(request.model, request.sae_name, request.sae[2], request.corpus)
    try:
        return run_fit_check(shared.lease, shared.store, wanted).check
    except ValueError:
        return None


def _versions(shared: Shared) -> dict[str, str]:
    found = {
        "model": shared.lease.model_fingerprint,
        "sae": shared.lease.sae_fingerprints[0],
        "text": shared.request.corpus.name,
        "text digest": shared.request.corpus.digest,
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
