"""Which latents of several SAEs fire in a text that somebody has just typed?"""

from collections.abc import Sequence

from core.activations import Firings, collect_firings
from core.corpus.beginning import beginning
from core.corpus.load import default_packing, prompt_tokens
from core.engine import Engine
from core.view.splitting.members import Member


def fires_in_text(
    engine: Engine, model: str, members: Sequence[Member], text: str
) -> list[Firings]:
    """Firings of each member on the tokens of `text`.

    Raises ValueError where it has no token, or for SAEs that do not agree about BOS.
    """
    with engine.use(model, [member.entry.key for member in members]) as (loaded, saes):
        beginning(loaded, saes)
        tokens = prompt_tokens([text], loaded.tokenizer, default_packing(loaded, saes[0]))
        return collect_firings(loaded, saes, tokens, max_tokens=max(1, tokens.n_tokens))
