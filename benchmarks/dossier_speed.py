"""How long a dossier takes: the first of an SAE, further ones of a batch, and one from the store.

    python -m benchmarks.dossier_speed

Runs on the demo, offline, in a fresh store. The index of the SAE on the same text is made first, as
the dashboard makes it, and is not counted; models and SAEs are in memory, libraries imported.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from core.activations.text_index import IndexRequest, make_index
from core.catalog import Catalog
from core.corpus import docs_sample
from core.dossier.conclude import conclude
from core.dossier.plan import request_for
from core.dossier.request import DossierRequest
from core.dossier.run import run_dossier
from core.dossier.shared import Shared
from core.dossier.stored import open_dossier
from core.engine import Engine
from core.lease import Lease
from core.settings import Settings
from core.store import Store
from core.view.choices import read_choices

RELEASE, SAE = "docs-small-res", "blocks.2.hook_resid_pre"
LATENTS = (7, 420, 100, 33, 250, 512)
"""The first one is timed alone; all of them fire often enough to have every part."""


def main() -> None:
    """Print seconds of each part of the first dossier, of further ones, and from the store."""
    write = sys.stdout.write
    with tempfile.TemporaryDirectory(prefix="dossier-") as folder:
        settings = Settings.from_environment()
        catalog, store = Catalog(settings), Store(Path(folder))
        engine, choices = Engine(catalog, device=settings.device, store=store), None
        choices, corpus = read_choices(catalog, hub=False), docs_sample()
        entry = catalog.entry(RELEASE, SAE)

        def request(latent: int) -> DossierRequest:
            return request_for(catalog, choices, entry, latent, corpus)

        first = request(LATENTS[0])
        index = IndexRequest(first.model, (first.sae,), corpus, first.tokens)
        write(f"index: {_seconds(lambda: make_index(_lease(engine, first), store, index)):.1f} s\n")
        shared = Shared(engine.lease, store, first)
        shared.batch = LATENTS
        further = []
        for latent in LATENTS:
            one, began = request(latent), time.monotonic()
            ends: list[tuple[str, float]] = []
            note = partial(_note, ends)
            run_dossier(engine.lease, store, one, shared=shared, on_part=note)
            total = time.monotonic() - began
            if latent != LATENTS[0]:
                further.append(total)
            each = " ".join(
                f"{part} {after - before:.1f}"
                for (part, after), before in zip(
                    ends, [began, *(at for _, at in ends)], strict=False
                )
            )
            write(f"latent {latent}: {total:.1f} s ({each})\n")
            sys.stdout.flush()
        middle, most = statistics.median(further), max(further)
        write(f"further ones: median {middle:.1f} s, at most {most:.1f} s\n")
        opened = []
        for latent in LATENTS:
            began = time.monotonic()
            conclude(open_dossier(store, request(latent)))
            opened.append(time.monotonic() - began)
        write(f"from the store: {statistics.median(opened):.2f} s, at most {max(opened):.2f} s\n")
        missing = open_dossier(store, request(LATENTS[0])).missing
        if missing:
            raise SystemExit(f"Parts that could not be made: {', '.join(missing)}")


def _lease(engine: Engine, request: DossierRequest) -> Lease:
    return engine.lease(request.model, [request.sae_name])


def _note(ends: list[tuple[str, float]], part: str) -> None:
    ends.append((part, time.monotonic()))


def _seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
