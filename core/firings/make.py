"""The pass that keeps every firing: one run of the model for all SAEs, resumed by the file.

Rows are taken in the stretches of `core.activations.build`, so a file holds to the bit what the
index of examples is made from. A killed pass goes on at the first file that is not there; the index
of examples can then be made from the files, without the model.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

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


class FileReaders(Protocol):
    """Who does the work of `make_firings`: this process, or workers to whom it is handed out."""

    def files(self, lease: Lease, places: Sequence[Kept]) -> None:
        """Write the files of these places, all of one text, that are missing."""

    def statistics_of(self, lease: Lease, place: Kept) -> LatentStatistics:
        """What `core.activations.build_statistics` gives of the same rows, from the files."""

    def totals(self, lease: Lease, places: Sequence[Kept]) -> None:
        """Add up the files of these places, and say of each that all is there."""


class _Here:
    """This process, one stretch after the other."""

    def files(self, lease: Lease, places: Sequence[Kept]) -> None:
        """As `FileReaders.files`."""
        told = Files(places)
        for span in told.missing:
            keep_span(lease, told.without(span), span, told.report(lease))
        told.end(lease)

    def statistics_of(self, lease: Lease, place: Kept) -> LatentStatistics:
        """As `FileReaders.statistics_of`."""
        return statistics_of(lease, place)

    def totals(self, lease: Lease, places: Sequence[Kept]) -> None:
        """As `FileReaders.totals`."""
        for place in places:
            save_totals(lease, place)


def make_firings(
    lease: Lease,
    store: Store,
    request: IndexRequest,
    *,
    index: bool = True,
    readers: FileReaders | None = None,
) -> list[Kept]:
    """Every firing of each SAE of the request, whose SAEs the lease has; what is there stays.

    With `index`, the index of examples is made from them where the store has none, without
    another run of the model. `readers` do the work; this process if None.

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
            own = readers or _Here()
            some = _make(lease, store, request, packing, numbers, widths, own, index=index)
            found.update(zip(numbers, some, strict=True))
    return [found[number] for number in range(len(widths))]


def _make(
    lease: Lease,
    store: Store,
    request: IndexRequest,
    packing: Packing,
    numbers: Sequence[int],
    widths: Sequence[int],
    readers: FileReaders,
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
    readers.files(own, places)
    for place, fingerprint in zip(places, own.sae_fingerprints, strict=True):
        key = index_key(
            model_fingerprint=own.model_fingerprint,
            sae_fingerprint=fingerprint,
            tokens_digest=token_set.digest,
            config=CONFIG,
        )
        if index and open_summary(store, key) is None:
            state = readers.statistics_of(own, place)
            save_index(store, key, finish(state, check=own.progress.check))
    readers.totals(own, [place for place in places if not place.is_whole])
    return places


class Files:
    """The files that are missing in some places of one text, and how far it is with them."""

    def __init__(self, places: Sequence[Kept]) -> None:
        self._places, self._done = places, 0
        self._mask = places[0].token_set.mask
        self.missing = sorted({span for place in places for span in place.missing()})
        """Rows [first, last) of which at least one place has no file."""
        self.total = sum(self.tokens(span) for span in self.missing)
        """Positions of these rows that count."""

    def tokens(self, span: tuple[int, int]) -> int:
        """Positions of these rows that count."""
        return int(self._mask[span[0] : span[1]].sum())

    def without(self, span: tuple[int, int]) -> dict[int, Kept]:
        """The places that have no file of these rows, by their numbers."""
        numbered = enumerate(self._places)
        return {number: it for number, it in numbered if not it.file(span).is_file()}

    def report(self, lease: Lease) -> Callable[[int], None]:
        """To be told the positions that are about to be read."""

        def report(tokens: int) -> None:
            tell_firings(lease, self._done, self.total)
            self._done += tokens

        return report

    def end(self, lease: Lease) -> None:
        """Say that all are there."""
        tell_firings(lease, self.total, self.total)


def tell_firings(lease: Lease, done: int, total: int) -> None:
    """Say how far keeping every firing is. Raises JobCancelled."""
    lease.progress.update(done, total, unit="tokens", message="Keeping every firing")


def keep_span(
    lease: Lease,
    places: Mapping[int, Kept],
    span: tuple[int, int],
    report: Callable[[int], None],
) -> None:
    """Run the model on some rows, and write their file in each place.

    Places are of one text, under the numbers of their SAEs in the lease.

    Raises ValueError and JobCancelled as `make_firings` does.
    """
    first, last = span
    wanted = list(places)
    token_set = places[wanted[0]].token_set
    step = max(1, BATCH_TOKENS // token_set.context)
    own = lease.with_saes(wanted)
    order = first + np.argsort(-token_set.lengths[first:last], kind="stable")
    parts: list[list] = [[] for _ in wanted]
    for start in range(0, len(order), step):
        rows = np.sort(order[start : start + step])
        report(int(token_set.mask[rows].sum()))
        with own.turn() as (model, saes):
            new = run_rows(model, saes, token_set, rows, progress=lease.progress)
        for mine, more in zip(parts, new, strict=True):
            mine.extend(more)
    for number, pieces in zip(wanted, parts, strict=True):
        place = places[number]
        try:
            size = write_shard(
                place.file(span), pieces, context=token_set.context, d_sae=place.about.d_sae
            )
        except OSError as error:
            raise _no_room(error) from error
        kept(size)


def statistics_of(
    lease: Lease, place: Kept, spans: Sequence[tuple[int, int]] | None = None
) -> LatentStatistics:
    """What `core.activations.build_statistics` gives of the same rows, from the files.

    Of the rows of all files if `spans` is None.
    """
    about, token_set = place.about, place.token_set
    spans = place.spans if spans is None else spans
    state = LatentStatistics.empty(CONFIG, d_sae=about.d_sae, context=about.context)
    for number, (first, last) in enumerate(spans):
        lease.progress.update(number, len(spans), unit="files", message="Indexing what was kept")
        parts = [
            (at.astype(np.int32), latent, value)
            for at, latent, value in read_shard(place.file((first, last)), context=about.context)
        ]
        rows = np.arange(first, last)
        counted = token_set.mask[first:last].sum(1)
        state.add_block(make_block(about.d_sae, about.context, rows, counted, parts))
    return state


def save_totals(lease: Lease, place: Kept) -> None:
    """Add up the files of a place, and say that all is there."""
    d_sae = place.about.d_sae
    count, total = np.zeros(d_sae, np.int64), np.zeros(d_sae)
    peak = np.zeros(d_sae, np.float32)
    for number, span in enumerate(place.spans):
        lease.progress.update(number, len(place.spans), unit="files", message="Adding up")
        for _, latent, value in read_shard(place.file(span), context=place.about.context):
            count += np.bincount(latent, minlength=d_sae)
            total += np.bincount(latent, weights=value, minlength=d_sae)
            np.maximum.at(peak, latent, value)
    place.save_totals(Totals(count, total, peak))
    place.tidy()


def _no_room(error: OSError) -> ValueError:
    return ValueError(
        f"The firings cannot be kept: {error.strerror or error}. Free some space, delete those of "
        "other texts, or read less of it."
    )
