"""The quality of SAEs, handed out to workers, an SAE each.

The command alone opens the store, so figures come back as the bytes that the store would keep.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from core.corpus.token_set import TokenSet
from core.lease import Lease
from core.run.handing_out import Hands, alike, first_rows, write_tokens
from core.run.orders import Order, Text
from core.sae_quality.measure import QualityConfig
from core.sae_quality.result import Quality
from core.sae_quality.run import QualityRequest
from core.store.dataclass_codec import dataclass_codec


class HandedOutSaes:
    """`core.sae_quality.run.Measurers` that let others do it."""

    def __init__(self, hands: Hands, directory: Path) -> None:
        """`directory` is the folder of the store, which all workers see."""
        self._hands, self._passes = hands, directory / "passes"

    def measure(
        self,
        lease: Lease,
        request: QualityRequest,
        texts: Mapping[int, TokenSet],
        config: QualityConfig,
    ) -> Iterator[tuple[int, Quality]]:
        """As `core.sae_quality.run.Measurers.measure`.

        Raises ValueError where a worker has other weights than this process.
        """
        codec = dataclass_codec(Quality)
        for digest in dict.fromkeys(text.digest for text in texts.values()):
            numbers = [number for number, text in texts.items() if text.digest == digest]
            token_set = texts[numbers[0]]
            file = str(write_tokens(self._passes, token_set))
            named = [
                Text(request.model, (request.names[number],), file, first_rows(token_set))
                for number in numbers
            ]
            # Workers are compared by the first SAE alone: none needs all of them in its memory.
            fits = alike(lease.with_saes(numbers[:1]), token_set, threads=self._hands.threads)
            orders = [Order("measure", (text, config)) for text in named]

            def tell(_: float) -> None:
                lease.progress.check()

            first = Order("see", (named[0],))
            for at, (weights, data) in self._hands.carry_out(orders, first, fits, tell):
                own = lease.with_saes([numbers[at]])
                if weights != (own.model_fingerprint, *own.sae_fingerprints):
                    raise ValueError(
                        f"A worker has other weights of {' / '.join(request.names[numbers[at]])} "
                        "than this process; give all the same files."
                    )
                yield numbers[at], codec.decode(data)
