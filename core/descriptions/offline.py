"""Descriptions without a language model: from the words at a latent's peaks, and what it boosts.

For every latent:
1. count the words that its peaks are in, the words before and after them, and, where these say
   nothing, the words in the whole window;
2. find the first pattern that holds for most peaks: one or a few words, one piece of many words,
   a class such as numbers, an ending, always the same word before or after, a topic;
3. write it down with its share of the peaks, and as one line of text.

It says what a latent was seen to fire on, no more; sources show such texts as `offline`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from core.descriptions.patterns import Pattern, add_topics, find_patterns
from core.descriptions.peaks import NONE, near_words, peak_words
from core.descriptions.wording import line_of_text
from core.jobs.progress import Progress

DESCRIBER_VERSION = 2
"""Raised whenever the same input gives other texts; for keys of stored descriptions."""

_WEAK = 0.25
_TOPIC_PEAKS = 10
_CHUNK = 2048


@dataclass(frozen=True)
class OfflineDescriptions:
    """What the describer found."""

    texts: list[str]
    """One line for each latent; `""` for one without peaks."""
    patterns: list[Pattern]
    """The finding behind each line."""


def describe_latents(
    windows: Int[np.ndarray, "d_sae n_top window"],
    values: Float[np.ndarray, "d_sae n_top"],
    vocabulary: Sequence[str],
    *,
    n_before: int,
    boosted: Int[np.ndarray, "d_sae k"] | None = None,
    special_ids: Collection[int] = (),
    max_chars: int = 100,
    progress: Progress | None = None,
) -> OfflineDescriptions:
    """Describe every latent from its strongest peaks. The same input gives the same texts.

    Args:
        windows: token ids around each peak, which is in column `n_before`; -1 where there is
            nothing. 16,384 latents of 20 peaks and 21 tokens take a few seconds.
        values: activation at each peak; peaks that are not positive, or under a quarter of the
            latent's strongest, do not count.
        vocabulary: text of every token id, as the tokenizer decodes it.
        n_before: tokens before the peak in each window.
        boosted: ids of the tokens that each latent makes likelier, the strongest first; -1 for
            none.
        special_ids: tokens that are never named as boosted, such as `<unk>`: a model that never
            met them in training leaves their scores to chance.
        max_chars: length of a text.
        progress: latents done.

    Raises:
        ValueError: shapes or ids do not fit each other.
        JobCancelled: through `progress`.
    """
    _check(windows, values, vocabulary, n_before, boosted)
    counted = _counted(windows, values, n_before)
    windows = np.where(counted[..., None], windows, NONE)
    words = peak_words(windows, vocabulary, n_before=n_before)
    patterns = find_patterns(words, vocabulary, progress=progress)
    unclear = [latent for latent, found in enumerate(patterns) if found.kind == "mixed"]
    for start in range(0, len(unclear), _CHUNK):
        if progress is not None:
            progress.update(start, len(unclear), unit="latents", message="reading around the peaks")
        chunk = unclear[start : start + _CHUNK]
        near = near_words(windows[chunk, :_TOPIC_PEAKS], vocabulary)
        with_topics = add_topics([patterns[latent] for latent in chunk], near)
        for latent, pattern in zip(chunk, with_topics, strict=True):
            patterns[latent] = pattern
    pushed = [[]] * len(patterns) if boosted is None else boosted.tolist()
    unnamed = {NONE, *special_ids}
    texts = [
        line_of_text(pattern, [vocabulary[i] for i in ids if i not in unnamed], max_chars=max_chars)
        for pattern, ids in zip(patterns, pushed, strict=True)
    ]
    return OfflineDescriptions(texts, patterns)


def _counted(
    windows: Int[np.ndarray, "d_sae n_top window"],
    values: Float[np.ndarray, "d_sae n_top"],
    n_before: int,
) -> Bool[np.ndarray, "d_sae n_top"]:
    """Peaks that say what a latent fires on: on a token, positive, and not weak."""
    positive = np.where(np.isfinite(values), values, 0.0).clip(min=0.0)
    strongest = positive.max(axis=1, keepdims=True, initial=0.0)
    return (positive > 0) & (positive >= _WEAK * strongest) & (windows[..., n_before] >= 0)


def _check(
    windows: np.ndarray,
    values: np.ndarray,
    vocabulary: Sequence[str],
    n_before: int,
    boosted: np.ndarray | None,
) -> None:
    if windows.ndim != 3 or values.shape != windows.shape[:2]:
        raise ValueError(
            f"Windows have the shape {windows.shape} and values {values.shape}; give"
            " [d_sae, n_top, window] and [d_sae, n_top]."
        )
    if not 0 <= n_before < windows.shape[2]:
        raise ValueError(f"n_before is {n_before}; windows are {windows.shape[2]} tokens wide.")
    if boosted is not None and (boosted.ndim != 2 or len(boosted) != len(windows)):
        raise ValueError(
            f"boosted has the shape {boosted.shape}; give [d_sae, k] for {len(windows)} latents."
        )
    for name, ids in (("windows", windows), ("boosted", boosted)):
        if ids is not None and ids.size and not (ids.min() >= NONE and ids.max() < len(vocabulary)):
            raise ValueError(
                f"Token ids of {name} go from {ids.min()} to {ids.max()}; the vocabulary has"
                f" {len(vocabulary)} (and -1 stands for nothing)."
            )
