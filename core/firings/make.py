"""The pass that keeps every firing: one run of the model for all SAEs, resumed by the file.

Rows are taken in the stretches of `core.activations.build`, so a file holds to the bit what the
index of examples is made from. A killed pass goes on at the first file that is not there; the index
of examples can then be made from the files, without the model.
"""

from collections.abc import Sequence

import numpy as np

from core.activations.block import make_block
from core.activations.build import BATCH_TOKENS, run_rows, stretch_rows
from core.activations.index import finish
from core.activations.statistics import LatentStatistics
from core.activations.stored_index import index_key, open_summary, save_index
from core.activations.text_index import CONFIG, IndexRequest
from core.asking import check_may_compute, kept
from core.corpus.load import default_packing, load_token_set
from core.corpus.packing import Packing
from core.firings.kept import About, Kept, Totals, open_or_begin
from core.firings.shard import read_shard, write_shard
from core.lease import Lease
from core.store import Store
from core.store.leftovers import sweep

_MOST_TOGETHER = 32
"""SAEs of one run of the model: the firings of a stretch are in memory for all of them."""


def make_firings(
    lease: Lease, store: Store, request: IndexRequest, *, index: bool = True
) -> list[Kept]:
    """Every firing of each SAE of the request, whose SAEs the lease has; what is there stays.

    With `index`, the index of examples is made from them where the store has none, without
    another run of the model.

    Raises:
        ValueError: a text that cannot be read, an SAE that does not fit, activations that are not
            finite, no room on the disk.
        JobCancelled: through the lease's progress; whole files are kept for the next time.
    """
    check_may_compute()
    with lease.turn() as (model, saes):
        packings = [
            default_packing(model, sae, max_tokens=request.tokens, include_bos=request.include_bos)
            for sae in saes
        ]
        widths = [int(sae.cfg.d_sae) for sae in saes]
    found: dict[int, Kept] = {}
    for packing in dict.fromkeys(packings):
        alike = [number for number, other in enumerate(packings) if other == packing]
        for start in range(0, len(alike), _MOST_TOGETHER):
            numbers = alike[start : start + _MOST_TOGETHER]
            some = _make(lease, store, request, packing, numbers, widths, index=index)
            found.update(zip(numbers, some, strict=True))
    return [found[number] for number in range(len(widths))]


def _make(
    lease: Lease,
    store: Store,
    request: IndexRequest,
    packing: Packing,
    numbers: Sequence[int],
    widths: Sequence[int],
    *,
    index: bool,
) -> list[Kept]:
    token_set = load_token_set(
        request.corpus, lease.tokenizer, packing, store=store, progress=lease.progress
    )
    own = lease.with_saes(numbers)
    sweep(store.directory)
    places = []
    for number, fingerprint in zip(numbers, own.sae_fingerprints, strict=True):
        about = About(
            model=request.model,
            sae=request.saes[number],
            text=request.corpus.name,
            text_digest=request.corpus.digest,
            tokens=request.tokens,
            include_bos=request.include_bos,
            tokens_digest=token_set.digest,
            d_sae=widths[number],
            context=token_set.context,
            n_rows=token_set.n_rows,
            step=stretch_rows(token_set, BATCH_TOKENS),
            n_tokens=token_set.n_tokens,
        )
        try:
            places.append(
                open_or_begin(
                    store.directory, about, token_set, model=own.model_fingerprint, sae=fingerprint
                )
            )
        except OSError as error:
            raise _no_room(error) from error
    _read(own, places)
    for place, fingerprint in zip(places, own.sae_fingerprints, strict=True):
        key = index_key(
            model_fingerprint=own.model_fingerprint,
            sae_fingerprint=fingerprint,
            tokens_digest=token_set.digest,
            config=CONFIG,
        )
        if index and open_summary(store, key) is None:
            state = statistics_of(own, place)
            save_index(store, key, finish(state, check=own.progress.check))
        if not place.is_whole:
            place.save_totals(_totals(own, place))
            place.tidy()
    return places


def _read(lease: Lease, places: Sequence[Kept]) -> None:
    """Run the model on the rows of which a file is missing, and write those files."""
    token_set = places[0].token_set
    spans = sorted({span for place in places for span in place.missing()})
    total = sum(int(token_set.mask[first:last].sum()) for first, last in spans)
    step, done = max(1, BATCH_TOKENS // token_set.context), 0
    for span in spans:
        first, last = span
        wanted = [number for number, it in enumerate(places) if not it.file(span).is_file()]
        own = lease.with_saes(wanted)
        order = first + np.argsort(-token_set.lengths[first:last], kind="stable")
        parts: list[list] = [[] for _ in wanted]
        for start in range(0, len(order), step):
            lease.progress.update(done, total, unit="tokens", message="Keeping every firing")
            rows = np.sort(order[start : start + step])
            with own.turn() as (model, saes):
                new = run_rows(model, saes, token_set, rows, progress=lease.progress)
            for mine, more in zip(parts, new, strict=True):
                mine.extend(more)
            done += int(token_set.mask[rows].sum())
        for number, pieces in zip(wanted, parts, strict=True):
            place = places[number]
            try:
                size = write_shard(
                    place.file(span),
                    pieces,
                    context=token_set.context,
                    d_sae=place.about.d_sae,
                )
            except OSError as error:
                raise _no_room(error) from error
            kept(size)
    lease.progress.update(total, total, unit="tokens", message="Keeping every firing")


def statistics_of(lease: Lease, place: Kept) -> LatentStatistics:
    """What `core.activations.build_statistics` gives of the same rows, from the files."""
    about, token_set = place.about, place.token_set
    state = LatentStatistics.empty(CONFIG, d_sae=about.d_sae, context=about.context)
    for number, (first, last) in enumerate(place.spans):
        lease.progress.update(
            number, len(place.spans), unit="files", message="Indexing what was kept"
        )
        parts = [
            (at.astype(np.int32), latent, value)
            for at, latent, value in read_shard(place.file((first, last)), context=about.context)
        ]
        rows = np.arange(first, last)
        counted = token_set.mask[first:last].sum(1)
        state.add_block(make_block(about.d_sae, about.context, rows, counted, parts))
    return state


def _totals(lease: Lease, place: Kept) -> Totals:
    d_sae = place.about.d_sae
    count, total = np.zeros(d_sae, np.int64), np.zeros(d_sae)
    peak = np.zeros(d_sae, np.float32)
    for number, span in enumerate(place.spans):
        lease.progress.update(number, len(place.spans), unit="files", message="Adding up")
        for _, latent, value in read_shard(place.file(span), context=place.about.context):
            count += np.bincount(latent, minlength=d_sae)
            total += np.bincount(latent, weights=value, minlength=d_sae)
            np.maximum.at(peak, latent, value)
    return Totals(count, total, peak)


def _no_room(error: OSError) -> ValueError:
    return ValueError(
        f"The firings cannot be kept: {error.strerror or error}. Free some space, delete those of "
        "other texts, or read less of it."
    )
