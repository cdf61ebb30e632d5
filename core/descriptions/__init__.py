"""What is a latent about, in words: from where, how good, and where to find it again?

`Descriptions` holds one text a latent; it comes from Neuronpedia (`core.neuronpedia`), from a
user's file, from what the user saved, or from the offline describer, merged in that order.
"""

from core.descriptions.files import (
    EXPORT_FORMATS,
    DescriptionsFile,
    export_descriptions,
    read_descriptions_file,
)
from core.descriptions.offline import DESCRIBER_VERSION, OfflineDescriptions, describe_latents
from core.descriptions.patterns import Pattern
from core.descriptions.saved import (
    forget_user_descriptions,
    load_user_descriptions,
    save_user_descriptions,
)
from core.descriptions.search import search_texts, search_tokens
from core.descriptions.table import NEURONPEDIA, OFFLINE, YOURS, Descriptions

__all__ = [
    "DESCRIBER_VERSION",
    "EXPORT_FORMATS",
    "NEURONPEDIA",
    "OFFLINE",
    "YOURS",
    "Descriptions",
    "DescriptionsFile",
    "OfflineDescriptions",
    "Pattern",
    "describe_latents",
    "export_descriptions",
    "forget_user_descriptions",
    "load_user_descriptions",
    "read_descriptions_file",
    "save_user_descriptions",
    "search_texts",
    "search_tokens",
]
