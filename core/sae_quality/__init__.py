"""Is this SAE good? What it does to a text, and what its weights look like, each beside a null.

- `text_figures`: L0, its distribution, variance explained (also by position), firing rates
- `loss`: what the model loses with the SAE's version, and with zeros and the mean in its place
- `geometry`: lengths of decoder rows, encoder against decoder, nearest neighbours
- `null`: the same number of random directions
- `measure`, `run`: all of it under a lease, stored; `tables` and `figures` show it
- `view`: what a link to the page carries
"""

from typing import TYPE_CHECKING

from core.lazy import lazily

if TYPE_CHECKING:  # they bring torch
    from core.sae_quality.geometry import Geometry, decoder_geometry
    from core.sae_quality.measure import QualityConfig, measure_quality
    from core.sae_quality.result import Quality
    from core.sae_quality.tables import quality_table

__all__ = [
    "Geometry",
    "Quality",
    "QualityConfig",
    "decoder_geometry",
    "measure_quality",
    "quality_table",
]
__getattr__ = lazily(
    __name__,
    {
        "Geometry": "geometry",
        "Quality": "result",
        "QualityConfig": "measure",
        "decoder_geometry": "geometry",
        "measure_quality": "measure",
        "quality_table": "tables",
    },
)
