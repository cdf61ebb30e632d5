"""What do the latents of a wide SAE add to a narrow one of the same site? (arXiv 2502.04878)

- `delta`: how the narrow SAE's error changes when one latent of the wide one is put in, of all
- `proxy`: how well the nearest direction tells new latents from repeated ones
- `curve`: the SAE stitched together step by step from narrow to wide
- `measure`, `run`: all of it under a lease, stored; `tables` and `figures` show it
- `view`: what a link carries
"""

from typing import TYPE_CHECKING

from core.lazy import lazily

if TYPE_CHECKING:  # they bring torch
    from core.stitching.curve import Curve
    from core.stitching.delta import Deltas, insertion_deltas
    from core.stitching.measure import StitchConfig, stitch
    from core.stitching.proxy import ProxyCheck, check_proxy
    from core.stitching.result import Stitching
    from core.stitching.tables import latent_table

__all__ = [
    "Curve",
    "Deltas",
    "ProxyCheck",
    "StitchConfig",
    "Stitching",
    "check_proxy",
    "insertion_deltas",
    "latent_table",
    "stitch",
]
__getattr__ = lazily(
    __name__,
    {
        "Curve": "curve",
        "Deltas": "delta",
        "ProxyCheck": "proxy",
        "StitchConfig": "measure",
        "Stitching": "result",
        "check_proxy": "proxy",
        "insertion_deltas": "delta",
        "latent_table": "tables",
        "stitch": "measure",
    },
)
