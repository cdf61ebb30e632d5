"""Where Neuronpedia's pages and exports are.

NEURONPEDIA_URL and NEURONPEDIA_DATASETS_URL replace the two bases.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urlsplit

from core.neuronpedia.errors import NeuronpediaError

PAGES_URL = "https://www.neuronpedia.org"
DATASETS_URL = "https://neuronpedia-datasets.s3.us-east-1.amazonaws.com"

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Source:
    """One SAE as Neuronpedia names it."""

    model: str
    """Their name of the model: `gpt2-small`."""
    source: str
    """Their name of the SAE: `7-res-jb`."""

    @classmethod
    def parse(cls, neuronpedia_id: str) -> "Source":
        """The two parts of `gpt2-small/7-res-jb`; raises `NeuronpediaError` for anything else."""
        parts = neuronpedia_id.split("/") if isinstance(neuronpedia_id, str) else []
        if len(parts) != 2 or not all(_PART.fullmatch(part) for part in parts):
            raise NeuronpediaError(
                f"The Neuronpedia id {neuronpedia_id!r} is not of the form model/source, such as"
                " gpt2-small/7-res-jb."
            )
        return cls(*parts)

    @property
    def prefix(self) -> str:
        """Folder of the explanations in the bucket. The slash at its end keeps out the folders
        `explanations-gpt-4o-mini/` and the like, which stand beside it."""
        return f"v1/{self.model}/{self.source}/explanations/"

    def __str__(self) -> str:
        return f"{self.model}/{self.source}"


def pages_url(environment: Mapping[str, str] | None = None) -> str:
    """Base of Neuronpedia's pages and API, without a slash at the end."""
    return _base("NEURONPEDIA_URL", PAGES_URL, environment)


def datasets_url(environment: Mapping[str, str] | None = None) -> str:
    """Base of the bucket with the exports, without a slash at the end."""
    return _base("NEURONPEDIA_DATASETS_URL", DATASETS_URL, environment)


def dashboard_url(
    neuronpedia_id: str,
    latent: int,
    *,
    embed: bool = False,
    explanation: bool = True,
    plots: bool = True,
    test: bool = True,
    activations: bool = True,
    link: bool = True,
    steer: bool = True,
    test_field: bool = True,
    default_text: str = "",
) -> str:
    """Address of a latent's page, or with `embed` of the same page made for an iframe.

    Args:
        neuronpedia_id: `model/source`.
        latent: its index in the SAE, from 0.
        embed: without the site's frame; the options below apply to this form only.
        explanation, plots, test, activations, link, steer, test_field: parts that are shown.
        default_text: text that the test field starts with.

    Raises:
        NeuronpediaError: (a `ValueError`) the id or the base address is malformed.
        ValueError: the latent is negative.
    """
    if latent < 0:
        raise ValueError(f"There is no latent {latent}; latents count from 0.")
    url = f"{pages_url()}/{Source.parse(neuronpedia_id)}/{int(latent)}"
    if not embed:
        return url
    parts = {
        "embedexplanation": explanation,
        "embedplots": plots,
        "embedtest": test,
        "embedactivations": activations,
        "embedlink": link,
        "embedsteer": steer,
        "embedtestfield": test_field,
    }
    query = {"embed": "true"} | {name: "false" for name, shown in parts.items() if not shown}
    if default_text:
        query["defaulttesttext"] = default_text
    return f"{url}?{urlencode(query, quote_via=quote)}"


def _base(variable: str, default: str, environment: Mapping[str, str] | None) -> str:
    env = os.environ if environment is None else environment
    url = (env.get(variable) or default).strip().rstrip("/")
    # The address becomes a link and an iframe: nothing but http may get there.
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise NeuronpediaError(
            f"{variable} is {url!r}; set it to an address that starts with https://, or unset it."
        )
    return url
