"""One text for each latent of an SAE, and where it comes from."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped

NEURONPEDIA = "neuronpedia"
YOURS = "yours"
OFFLINE = "offline"


@dataclass(frozen=True, eq=False)
class Descriptions:
    """Descriptions of the latents of one SAE; treat the arrays as read-only."""

    texts: Shaped[np.ndarray, " d_sae"]
    """Text of each latent (dtype object, of str); `""` where there is none."""
    sources: Shaped[np.ndarray, " d_sae"]
    """Who says so (dtype object, of str): `neuronpedia`, `yours`, `offline`; `""` where nobody."""
    scores: Float[np.ndarray, " d_sae"]
    """How well the text was found to predict the latent (float32), in the source's own measure;
    NaN where unknown."""

    def __post_init__(self) -> None:
        shapes = {self.texts.shape, self.sources.shape, self.scores.shape}
        if len(shapes) != 1 or self.texts.ndim != 1:
            raise ValueError(
                f"Texts, sources and scores have the shapes {self.texts.shape},"
                f" {self.sources.shape} and {self.scores.shape}; all must be [d_sae]."
            )

    @classmethod
    def none(cls, d_sae: int) -> "Descriptions":
        """No description for any of `d_sae` latents."""
        return cls(
            texts=np.full(d_sae, "", dtype=object),
            sources=np.full(d_sae, "", dtype=object),
            scores=np.full(d_sae, np.nan, dtype=np.float32),
        )

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[str],
        *,
        source: str,
        scores: "Sequence[float] | Float[np.ndarray, ' d_sae'] | None" = None,
    ) -> "Descriptions":
        """One text for each latent in turn, all from `source`; `""` for none."""
        column = np.empty(len(texts), dtype=object)
        column[:] = [text.strip() for text in texts]
        has_text = column != ""
        given = np.full(len(texts), np.nan) if scores is None else np.asarray(scores)
        return cls(
            texts=column,
            sources=np.where(has_text, source, "").astype(object),
            scores=np.where(has_text, given, np.nan).astype(np.float32),
        )

    @classmethod
    def from_frame(
        cls, frame: pd.DataFrame, d_sae: int, *, source: str | None = None
    ) -> "Descriptions":
        """Descriptions from a table with `index`, `description` and perhaps `source`, `score`.

        Args:
            frame: of several rows for a latent the last counts; rows without a text are ignored.
            d_sae: latents of the SAE.
            source: of every row; None takes the column `source`.

        Raises:
            ValueError: a column is missing, or an index is not one of the SAE's.
        """
        needed = ["index", "description"] + ([] if source is not None else ["source"])
        missing = [name for name in needed if name not in frame.columns]
        if missing:
            raise ValueError(
                f"The table has no column {missing[0]!r}; it has {', '.join(map(str, frame))}."
            )
        index = frame["index"].to_numpy(dtype=np.int64)
        outside = (index < 0) | (index >= d_sae)
        if outside.any():
            raise ValueError(
                f"{int(outside.sum()):,} of {len(index):,} descriptions are of latents outside 0 to"
                f" {d_sae - 1} (such as {index[outside][0]}); they belong to another SAE."
            )
        result = cls.none(d_sae)
        texts = [text.strip() if isinstance(text, str) else "" for text in frame["description"]]
        kept = np.array([bool(text) for text in texts], dtype=bool)
        rows = index[kept]
        result.texts[rows] = np.array(texts, dtype=object)[kept]
        said_by = frame["source"].astype(object).to_numpy() if source is None else None
        result.sources[rows] = source if said_by is None else said_by[kept]
        if "score" in frame.columns:
            scores = pd.to_numeric(frame["score"], errors="coerce").to_numpy(dtype=np.float32)
            result.scores[rows] = scores[kept]
        return result

    @property
    def d_sae(self) -> int:
        """Latents of the SAE."""
        return len(self.texts)

    @property
    def missing(self) -> int:
        """Latents without a description."""
        return int((self.texts == "").sum())

    def counts(self) -> dict[str, int]:
        """How many descriptions each source gives, the largest number first."""
        return dict(Counter(source for source in self.sources if source).most_common())

    def merge(self, *others: "Descriptions") -> "Descriptions":
        """These, and where they say nothing the first of `others` that does.

        Raises:
            ValueError: they are of SAEs with different numbers of latents.
        """
        texts, sources, scores = self.texts.copy(), self.sources.copy(), self.scores.copy()
        for other in others:
            if other.d_sae != self.d_sae:
                raise ValueError(
                    f"These are descriptions of {self.d_sae} and of {other.d_sae} latents; only"
                    " those of one SAE can be merged."
                )
            filled = (texts == "") & (other.texts != "")
            texts[filled] = other.texts[filled]
            sources[filled] = other.sources[filled]
            scores[filled] = other.scores[filled]
        return Descriptions(texts, sources, scores)

    def to_frame(self, latents: Iterable[int] | None = None) -> pd.DataFrame:
        """Columns `index`, `description`, `source`, `score`; rows without a text are left out.

        Args:
            latents: only these, in this order; None means all.
        """
        chosen = np.arange(self.d_sae) if latents is None else np.array([*latents], dtype=np.int64)
        chosen = chosen[self.texts[chosen] != ""]
        return pd.DataFrame(
            {
                "index": chosen,
                "description": pd.Series(self.texts[chosen], dtype="str"),
                "source": pd.Series(self.sources[chosen], dtype="str"),
                "score": self.scores[chosen],
            }
        )
