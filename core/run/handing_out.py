"""Passes over a text, handed out in stretches of rows to workers and put together here.

Knows orders and files, not who carries orders out (`core/run/on_ray.py`). What is put together is
what one process makes of the same text, to the bit: rows go through the model in the same batches,
files hold whole stretches, and statistics merge exactly in any order.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from core.activations.build import BATCH_TOKENS, stretch_rows
from core.activations.parts import Gathered, PartFile, Span, cut, pass_name
from core.activations.statistics import LatentStatistics
from core.activations.text_index import CONFIG, Reading
from core.asking import kept
from core.corpus.token_set import TokenSet
from core.firings.kept import Kept
from core.firings.make import Files, tell_firings
from core.jobs.progress import Progress
from core.lease import Lease
from core.run.orders import Order, Seen, Text
from core.run.worker import seen
from core.store import ARRAYS
from core.store.frame import pack
from core.store.leftovers import write_whole

_SHARES = 8
"""Orders that a worker gets at least, where the text has as many stretches."""
_MOST_STRETCHES = 64
"""Stretches of an order at most: what a worker that is killed loses."""


class Hands(Protocol):
    """Who carries orders out."""

    @property
    def workers(self) -> int:
        """How many there are, or will be."""

    @property
    def threads(self) -> int:
        """Threads of torch of each, and of this process."""

    def carry_out(
        self,
        orders: Sequence[Order],
        first: Order | None,
        fits: Callable[[Seen], str | None],
        tell: Callable[[float], None],
    ) -> Iterator[tuple[int, Any]]:
        """The number of each order and what its method returned, as they are done.

        A worker gets `first` before anything else, and nothing else where `fits` has something to
        say of what it returned. `tell` hears how many tokens of all are read, and may raise.
        """


class HandedOut:
    """`RowReaders` and `FileReaders` that let others do the reading."""

    def __init__(self, hands: Hands, directory: Path) -> None:
        """`directory` is the folder of the store, which all workers see."""
        self._hands, self._passes = hands, directory / "passes"

    def statistics(self, lease: Lease, reading: Reading) -> list[LatentStatistics]:
        """As `core.activations.text_index.RowReaders`."""
        token_set = reading.token_set
        parts = self._parts(lease, token_set)
        file = write_tokens(self._passes, token_set)
        text = Text(reading.model, reading.saes, str(file), first_rows(token_set))
        context = token_set.context
        return self._gathered(
            lease.progress,
            parts,
            [LatentStatistics.empty(CONFIG, d_sae=n, context=context) for n in reading.widths],
            token_set,
            lambda span: Order("read", (text, parts, span), _tokens(token_set, span)),
            (Order("see", (text,)), alike(lease, token_set, threads=self._hands.threads)),
            message="Reading the text",
        )

    def files(self, lease: Lease, places: Sequence[Kept]) -> None:
        """As `core.firings.make.FileReaders`."""
        told, token_set = Files(places), places[0].token_set
        if not told.missing:
            return
        orders, spans = [], told.missing
        for span in spans:
            folders = tuple(str(it.folder) for it in told.without(span).values())
            orders.append(Order("keep", (folders, span), told.tokens(span)))
        about = places[0].about
        file = places[0].folder.parent / f"tokens-{about.tokens_digest[:32]}"
        names = tuple(place.sae for place in places)
        text = Text(about.model, names, str(file), first_rows(token_set))
        first = Order("see", (text,))
        fits = alike(lease, token_set, threads=self._hands.threads)

        def tell(done: float) -> None:
            tell_firings(lease, min(int(done), told.total), told.total)

        for _, size in self._hands.carry_out(orders, first, fits, tell):
            kept(size)
        told.end(lease)

    def statistics_of(self, lease: Lease, place: Kept) -> LatentStatistics:
        """As `core.firings.make.FileReaders`."""
        token_set, about = place.token_set, place.about
        parts = self._parts(lease, token_set, place.folder.name)
        [state] = self._gathered(
            lease.progress,
            parts,
            [LatentStatistics.empty(CONFIG, d_sae=about.d_sae, context=about.context)],
            token_set,
            lambda span: Order(
                "add_up", (str(place.folder), parts, span), _tokens(token_set, span)
            ),
            (None, lambda _: None),
            message="Indexing what was kept",
        )
        return state

    def totals(self, lease: Lease, places: Sequence[Kept]) -> None:
        """As `core.firings.make.FileReaders`."""
        orders = [Order("totals", (str(place.folder),)) for place in places]

        done: list[int] = []

        def tell(_: float) -> None:
            lease.progress.update(len(done), len(orders), unit="SAEs", message="Adding up")

        for number, _ in self._hands.carry_out(orders, None, lambda _: None, tell):
            done.append(number)

    def _gathered(
        self,
        progress: Progress,
        parts: PartFile,
        empty: Sequence[LatentStatistics],
        token_set: TokenSet,
        order_of: Callable[[Span], Order],
        first: tuple[Order | None, Callable[[Seen], str | None]],
        *,
        message: str,
    ) -> list[LatentStatistics]:
        """Hand out the rows that are missing, and put together what comes back."""
        gathered = Gathered(parts, empty, CONFIG, token_set.context)
        step, total = stretch_rows(token_set, BATCH_TOKENS), token_set.n_tokens
        while missing := gathered.missing(token_set.n_rows):
            stretches = sum(-(-(last - first) // step) for first, last in missing)
            most = min(_MOST_STRETCHES, -(-stretches // (_SHARES * self._hands.workers)))
            spans = cut(missing, step, most)
            before = total - sum(_tokens(token_set, span) for span in spans)

            def tell(done: float, before: int = before) -> None:
                at = min(total, before + int(done))
                progress.update(at, total, unit="tokens", message=message)

            try:
                for number, _ in self._hands.carry_out(
                    [order_of(span) for span in spans], *first, tell
                ):
                    if not gathered.add(spans[number]):
                        raise ValueError(
                            f"What a worker wrote to {parts.file(spans[number])} cannot be read "
                            "here; mount the folder of SAE_EXPLORER_CACHE there under the same "
                            "path."
                        )
                    gathered.save_if_due()
            except BaseException:
                gathered.save()
                raise
        progress.update(total, total, unit="tokens", message="Sorting what was found")
        gathered.end()
        return gathered.states

    def _parts(self, lease: Lease, token_set: TokenSet, what: str = "") -> PartFile:
        identity = [
            lease.model_fingerprint,
            list(lease.sae_fingerprints),
            [token_set.digest, BATCH_TOKENS, what],
        ]
        context = token_set.context
        return PartFile(self._passes, pass_name(identity, CONFIG, context), CONFIG, context)


def alike(lease: Lease, token_set: TokenSet, *, threads: int) -> Callable[[Seen], str | None]:
    """What is to be said of a worker that would do other sums than the others, or this process.

    On another kind of device than this one's, workers are compared with one another.
    """
    mine = seen(lease, token_set, first_rows(token_set), threads=threads)
    used: list[Seen] = []

    def fits(found: Seen) -> str | None:
        if found.weights != mine.weights:
            return (
                f"A worker, {found.where}, has other weights under these names than "
                f"{mine.where}; give all the same files."
            )
        reference = used[0] if used else mine if mine.device == found.device else found
        if found.firings != reference.firings:
            return (
                f"A worker, {found.where} ({found.device}), computes other activations than "
                f"{reference.where} ({reference.device}); use machines with processors and "
                "GPUs of one kind, and the same version of torch."
            )
        used.append(found)
        return None

    return fits


def first_rows(token_set: TokenSet) -> int:
    """Rows of the batch by which workers are compared."""
    return max(1, BATCH_TOKENS // token_set.context)


def write_tokens(folder: Path, token_set: TokenSet) -> Path:
    """The file in which workers find a text."""
    file = folder / f"tokens-{token_set.digest[:32]}"
    write_whole(file, pack(file.name, ARRAYS.encode(token_set.to_arrays())))
    return file


def _tokens(token_set: TokenSet, span: Span) -> int:
    return int(token_set.mask[span[0] : span[1]].sum())
