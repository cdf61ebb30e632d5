"""The export of Neuronpedia's old API, which instances other than the public one may still serve.

The public one removed it in April 2026: it answers 400 with a `newUrl` that points to the bucket.
"""

import json
from collections.abc import Callable

import pandas as pd
import requests

from core.neuronpedia.addresses import Source
from core.neuronpedia.errors import NeuronpediaError
from core.neuronpedia.http import Patience, get
from core.neuronpedia.rows import rows_of_list

_MAX_BYTES = 256 << 20


def old_export(
    source: Source,
    *,
    base: str,
    session: requests.Session,
    patience: Patience,
    check: Callable[[], None],
) -> pd.DataFrame | None:
    """Rows as `rows.rows_of_list` gives them; None when the endpoint is gone or knows no such SAE.

    Raises:
        NeuronpediaError: the server does not answer, or answers something that is no export.
    """
    answer = get(
        session,
        f"{base}/api/explanation/export",
        params={"modelId": source.model, "saeId": source.source},
        patience=patience,
        check=check,
        max_bytes=_MAX_BYTES,
    )
    # 400 with a newUrl is how the public instance says that the endpoint is gone; the bucket that
    # it names has been asked before. 404 and 410 say the same of an instance without it.
    if answer.status in (400, 404, 410):
        return None
    try:
        content = json.loads(answer.body) if answer.status == 200 else None
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict):
        content = content.get("explanations")
    if not isinstance(content, list):
        raise NeuronpediaError(
            f"{base} answered the request for descriptions with something else (status"
            f" {answer.status}); check NEURONPEDIA_URL or try again later."
        )
    return rows_of_list(content) if content else None
