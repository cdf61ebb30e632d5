"""Entries of a cfg.json that sae_lens would leave out in silence: misspelt, or in the wrong place.

sae_lens takes the entries that it knows by name and fills in the rest, so `normalise_activations`
or a `prepend_bos` beside `metadata` instead of in it give another SAE than was meant. Asked of
folders only: what sae_lens' loaders make of other formats is not written by hand.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Any

from core.catalog.sae_kinds import quote

OF_CONFIG = (
    *("architecture", "d_in", "d_sae", "d_out", "dtype", "device", "k", "metadata"),
    *("apply_b_dec_to_input", "normalize_activations", "reshape_activations"),
    *("rescale_acts_by_decoder_norm", "max_iterations", "residual_threshold"),
)
"""Entries of an SAE's own part that change what it computes."""
OF_METADATA = (
    *("hook_name", "hook_head_index", "hook_name_out", "hook_head_index_out", "prepend_bos"),
    *("model_name", "model_from_pretrained_kwargs", "context_size"),
)
"""Entries of its metadata that change what it is given."""
OF_OLD = (
    *("activation_fn", "activation_fn_str", "activation_fn_kwargs"),
    *("hook_point", "hook_point_head_index"),
)
"""Entries that configs had before sae_lens 6."""
_KNOWN = frozenset(
    (
        *(
            *OF_CONFIG,
            *OF_METADATA,
            *OF_OLD,
            "hf_hook_name",
            "hf_hook_name_out",
            "sae_lens_version",
        ),
        *("hook_layer", "hook_layer_out", "hook_point_layer", "model_class_name", "model_kwargs"),
        *("sae_lens_training_version", "training_architecture", "hook_eval"),
    )
)
_ALIKE = 0.85
"""From which likeness (difflib's ratio) a name counts as another's misspelling."""
_SHORTEST = 6
"""Names shorter than this resemble too many others."""


def names_problem(config: Mapping[str, Any], *, old_style: bool) -> str | None:
    """What is wrong with the names in a cfg.json, as the end of a sentence; None if nothing is."""
    metadata = config.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    return (
        _misspelt(config)
        or _misspelt(metadata)
        or (None if old_style else _misplaced(config, metadata))
        or _two_layers({**config, **metadata})
    )


def _misspelt(entries: Mapping[str, Any]) -> str | None:
    for name in entries:
        if name in _KNOWN or len(name) < _SHORTEST:
            continue
        meant = difflib.get_close_matches(
            name.lower().replace("-", "_"), (*OF_CONFIG, *OF_METADATA, *OF_OLD), 1, _ALIKE
        )
        if meant and meant[0] not in entries:
            return (
                f"has an entry {quote(name)}, which sae_lens does not read; if {meant[0]} is "
                "meant, write it so, or else take the entry out."
            )
    return None


def _misplaced(config: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    for name in OF_METADATA:
        given = config.get(name)
        if given is not None and metadata.get(name) != given:
            return (
                f"gives {name} as {quote(given)} beside metadata, where sae_lens does not read it; "
                "move the entry into metadata."
            )
    for name in OF_CONFIG:
        given = metadata.get(name)
        if given is not None and config.get(name) != given:
            return (
                f"gives {name} as {quote(given)} in metadata, where sae_lens does not read it; "
                "move the entry out of metadata."
            )
    return None


def _two_layers(flat: Mapping[str, Any]) -> str | None:
    """Whether the layer and the site disagree; sae_lens goes by the site and ignores the layer."""
    hook_name = flat.get("hook_name") or flat.get("hook_point")
    named = re.match(r"blocks\.(\d{1,6})\.", hook_name) if isinstance(hook_name, str) else None
    for name in ("hook_layer", "hook_point_layer"):
        layer = flat.get(name)
        if named is not None and isinstance(layer, int) and layer != int(named.group(1)):
            return (
                f"gives {name} as {quote(layer)} and the site {hook_name}, which is in layer "
                f"{named.group(1)}; correct the one that is wrong."
            )
    return None
