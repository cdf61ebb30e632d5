"""Which source tokens and heads feed a latent of an attention SAE?

- `sources`: a latent's pre-activation, taken apart exactly by head and source position
- `on_text`: the same at a token of a typed text or of one of its strongest examples
- `figure`: the chart of it
"""

from typing import TYPE_CHECKING

from core.lazy import lazily

if TYPE_CHECKING:
    from core.attribution.sources import (
        SourceAttribution,
        attribute_to_sources,
        why_no_sources,
    )

__all__ = ["SourceAttribution", "attribute_to_sources", "why_no_sources"]
__getattr__ = lazily(__name__, dict.fromkeys(__all__, "sources"))
