"""What a stored value is filed under: everything that it depends on."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.store.codecs import strict_json

_KIND = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Key:
    """What a stored value was computed from."""

    kind: str
    """Which computation, in lower case: `layer-map`, `explanation`."""
    version: int
    """Raised whenever the computation changes its result."""
    parameters: Mapping[str, Any] = field(hash=False)
    """Everything else the result depends on, as JSON: fingerprints, seeds, options."""
    digest: str = field(init=False, repr=False)
    """sha256, in hex, of the canonical JSON of the three."""

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or not _KIND.fullmatch(self.kind):
            raise ValueError(f"The kind {self.kind!r} is not a lower-case name such as layer-map.")
        if type(self.version) is not int or self.version < 1:
            raise ValueError(f"The version {self.version!r} is not a whole number from 1 up.")
        parameters = strict_json(dict(self.parameters), what="parameters", sort_keys=True)
        text = f'{{"kind":"{self.kind}","parameters":{parameters},"version":{self.version}}}'
        # A copy: the digest must not disagree with a dict that its owner changes later.
        object.__setattr__(self, "parameters", json.loads(parameters))
        object.__setattr__(self, "digest", hashlib.sha256(text.encode()).hexdigest())
