"""A corpus from the Hugging Face hub, streamed: only what is used is downloaded."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sae_lens import SAE

from core.asking import check_may_fetch, fetching
from core.corpus.documents import Corpus, Document, digest_of
from core.corpus.tables import checked_text

_PREFERRED = ("text", "content", "document", "body")
_PARTS = re.compile(r"(?:available configs|Available): \[(.*?)\]", re.DOTALL)
_SHOWN_PARTS = 20
_COUNTED = 8_000_000
"""Characters after which what was read is counted."""
DEFAULT_TOKENS = 2_000_000
"""Tokens taken of a hub dataset unless told otherwise."""


def proposed_dataset(sae: SAE) -> str | None:
    """The dataset that the SAE says it was trained on, if its name is one of the hub's."""
    path = getattr(sae.cfg.metadata, "dataset_path", None)
    is_name = isinstance(path, str) and path.count("/") == 1 and " " not in path
    return path if is_name else None


def hub_dataset(
    name: str,
    *,
    config: str | None = None,
    split: str = "train",
    column: str | None = None,
    revision: str | None = None,
) -> Corpus:
    """A dataset of the hub by name, read as a stream; no code of the dataset's is run.

    Nothing is asked of the hub before the documents are read; then ValueError says, in a
    sentence, that the hub cannot be reached, that there is no such dataset, or that a column is
    missing. Without a pinned `revision`, the hub's newest at the time of reading is used. A
    dataset of token ids (a column input_ids and no text) is refused: it fits one tokenizer only.
    """
    if not name.strip() or name.count("/") > 1 or any(char.isspace() for char in name.strip()):
        raise ValueError(f"{name!r} is not a dataset of the hub; names look like 'owner/dataset'.")
    name = name.strip()
    return Corpus(
        name=name if config is None else f"{name}, {config}",
        digest=digest_of("hub-dataset", name, config, split, column, revision),
        documents=lambda: _documents(name, config, split, column, revision),
        max_tokens=DEFAULT_TOKENS,
    )


def _documents(
    name: str, config: str | None, split: str, column: str | None, revision: str | None
) -> Iterator[Document]:
    check_may_fetch(f"The dataset {name}")
    chosen = column
    rows, uncounted = _rows(name, config, split, revision), 0
    for number, row in enumerate(rows, start=1):
        if chosen is None:
            chosen = _column(name, row)
        text = row.get(chosen)
        if chosen not in row:
            raise ValueError(f"{name} has no column {chosen!r}; it has {', '.join(row)}.")
        if text is not None and not isinstance(text, str):
            raise ValueError(f"The column {chosen!r} of {name} does not hold text; choose another.")
        uncounted += len(text or "")
        if uncounted > _COUNTED:
            with fetching(uncounted):
                uncounted = 0
        if text:
            yield Document(f"{name}: {number}", checked_text(text, f"Row {number} of {name}"))


def _column(name: str, row: dict[str, Any]) -> str:
    texts = [key for key, value in row.items() if isinstance(value, str)]
    for key in (*_PREFERRED, *texts):
        if key in texts:
            return key
    if "input_ids" in row or "tokens" in row:
        raise ValueError(
            f"{name} holds token ids instead of text; choose a dataset with a text column."
        )
    raise ValueError(f"{name} has no column with text; it has {', '.join(row)}.")


def _rows(
    name: str, config: str | None, split: str, revision: str | None
) -> Iterator[dict[str, Any]]:
    import datasets
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        raise ValueError(
            f"{name} is read from the Hugging Face hub, and HF_HUB_OFFLINE is set; unset it, or "
            "choose the documentation sample or a file of your own."
        )
    if Path(name).exists():
        # The library would read that instead, whatever lies in it.
        raise ValueError(
            f"{name!r} is also a folder where the explorer runs; name a dataset of the hub, or "
            "choose a file of your own."
        )
    try:
        stream = datasets.load_dataset(name, config, split=split, streaming=True, revision=revision)
        for row in stream:
            yield dict(row)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise ValueError(
            f"The hub has no dataset {name!r} that you may read; check its name, or log in if it "
            "is gated."
        ) from error
    except (OSError, datasets.exceptions.DatasetsError, RuntimeError) as error:
        raise ValueError(
            f"The dataset {name} could not be read from the hub ({_reason(error)}); check the "
            "connection, or choose the documentation sample or a file of your own."
        ) from error
    except ValueError as error:
        parts = _PARTS.search(str(error))
        if parts is None:
            raise ValueError(
                f"The dataset {name} could not be read as rows of text ({_first_line(error)}); "
                "choose another."
            ) from error
        shown = ", ".join(re.findall(r"'([^']*)'", parts.group(1))[:_SHOWN_PARTS])
        raise ValueError(
            f"{name} comes in several parts, of which one is read; add it to the name, as in "
            f"{name}@PART. Parts are: {shown}."
        ) from error


def _reason(error: BaseException) -> str:
    # The library looks for a folder of that name last, and says only that.
    local = type(error) is FileNotFoundError and "Couldn't find any data file at" in str(error)
    return "it could not be reached" if local else _first_line(error)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__)[:200].rstrip(".")
