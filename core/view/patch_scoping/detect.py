"""The detection check of a text, with the model held only while examples are gathered."""

import copy
from dataclasses import replace
from typing import Any

from core.corpus.documents import Corpus
from core.corpus.load import default_packing, load_token_set
from core.engine import Engine
from core.jobs.progress import Progress
from core.patch_scoping.detection import detection
from core.store import Store
from core.view.patch_scoping.workbench import PartProgress

DETECTION_TOKENS = 40_000
"""Tokens in which examples are looked for: little enough for one lease of some seconds."""


def run_detection(
    engine: Engine,
    store: Store,
    model: str,
    sae: tuple[str, str],
    corpus: Corpus,
    texts: dict[int, str],
    progress: Progress,
) -> dict[int, dict[str, Any]]:
    """`detection_check` with the judge that goes by words, on a sample of the corpus.

    Raises ValueError for a corpus that cannot be read.
    """
    with engine.use(model, [sae]) as (loaded, (found,)):
        tokenizer = copy.deepcopy(loaded.tokenizer)  # tokenizers are not for several threads
        packing = replace(default_packing(loaded, found), max_tokens=DETECTION_TOKENS)
    tokens = load_token_set(corpus, tokenizer, packing, store=store, progress=progress)
    progress.update(0, None, message="Looking for examples")
    with engine.use(model, [sae]) as (loaded, (found,)):
        check = detection(loaded, found, tokens, list(texts), total_tokens=DETECTION_TOKENS)
        data = check.gather_data(progress=PartProgress(progress))
    return check.run(data=data, explanations=texts, progress=progress)
