"""Which files the exports bucket holds for one SAE."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any
from urllib.parse import quote

import defusedxml.ElementTree
import requests
from defusedxml import DefusedXmlException

from core.neuronpedia.addresses import Source
from core.neuronpedia.errors import NeuronpediaError
from core.neuronpedia.http import Patience, get

_MAX_PAGES = 500
_MAX_PAGE_BYTES = 16 << 20
_BATCH = re.compile(r"batch-(\d{1,9})\.jsonl\.gz")


@dataclass(frozen=True)
class ExportFile:
    """One batch of explanations, and which state of it the bucket listed."""

    url: str
    """Its address."""
    number: int
    """N of `batch-N.jsonl.gz`."""
    size_bytes: int
    """As listed, compressed."""
    etag: str
    """The bucket's name for its contents."""
    modified: str
    """When it was written, as listed."""


def listing_digest(files: list[ExportFile]) -> str:
    """A name for this state of all the files."""
    return hashlib.sha256(json.dumps([astuple(file) for file in files]).encode()).hexdigest()


def list_files(
    source: Source,
    *,
    base: str,
    session: requests.Session,
    patience: Patience,
    check: Callable[[], None],
) -> list[ExportFile]:
    """The explanation batches of `source`, by number; empty when the bucket has none.

    Asks page after page: S3 gives at most 1000 keys at a time.

    Raises:
        NeuronpediaError: the bucket does not answer, refuses, or answers something else.
    """
    files: dict[str, ExportFile] = {}
    token: str | None = None
    seen: set[str] = set()
    for _ in range(_MAX_PAGES):
        params = {"list-type": "2", "prefix": source.prefix}
        if token is not None:
            params["continuation-token"] = token
        answer = get(
            session,
            f"{base}/",
            params=params,
            patience=patience,
            check=check,
            max_bytes=_MAX_PAGE_BYTES,
        )
        if answer.status != 200:
            raise NeuronpediaError(
                f"The exports at {base} cannot be listed (status {answer.status}); check"
                " NEURONPEDIA_DATASETS_URL or try again later."
            )
        found, token = _parse_page(answer.body, base, source.prefix)
        files.update((file.url, file) for file in found)
        if token is None:
            return sorted(files.values(), key=lambda file: (file.number, file.url))
        if token in seen:
            raise _not_a_listing(base)
        seen.add(token)
    raise _not_a_listing(base)


def _parse_page(xml: bytes, base: str, prefix: str) -> tuple[list[ExportFile], str | None]:
    """Batches of one page, and the token of the next."""
    try:
        root = defusedxml.ElementTree.fromstring(xml, forbid_dtd=True)
    except (DefusedXmlException, SyntaxError, ValueError, LookupError) as error:
        raise _not_a_listing(base) from error
    if _local_name(root) != "ListBucketResult":
        raise _not_a_listing(base)
    top = {_local_name(child): (child.text or "").strip() for child in root}
    files = []
    for child in root:
        if _local_name(child) != "Contents":
            continue
        fields = {_local_name(field): (field.text or "").strip() for field in child}
        key, size = fields.get("Key", ""), fields.get("Size", "")
        match = _BATCH.fullmatch(key.removeprefix(prefix)) if key.startswith(prefix) else None
        if match is None:
            continue
        if not (size.isascii() and size.isdecimal()):
            raise _not_a_listing(base)
        files.append(
            ExportFile(
                url=f"{base}/{quote(key)}",
                number=int(match[1]),
                size_bytes=int(size),
                etag=fields.get("ETag", "").strip('"'),
                modified=fields.get("LastModified", ""),
            )
        )
    if top.get("IsTruncated", "").lower() != "true":
        return files, None
    token = top.get("NextContinuationToken")
    if not token:
        raise _not_a_listing(base)
    return files, token


def _local_name(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _not_a_listing(base: str) -> NeuronpediaError:
    return NeuronpediaError(
        f"{base} answered something that is not the listing of a bucket; check"
        " NEURONPEDIA_DATASETS_URL, or a proxy in between, and try again later."
    )
