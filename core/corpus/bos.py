"""What stands in front of a text: a beginning-of-text token (BOS), or nothing.

This follows what SAE training does (sae_lens' `ActivationsStore`): `prepend_bos` of an SAE's
metadata says whether rows began with the tokenizer's `bos_token_id`, and the tokenizer is the one
that transformer_lens set up, which lets EOS stand in where there is no BOS (Qwen). Two stand-ins
are left out, because no model was ever given them: a token that the vocabulary lacks, whose number
would be that of the unknown token or lie beyond the embedding. Tokenizers that open texts with a
token for classification, as BERT's do, have their [CLS] for BOS.
"""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Int
from sae_lens import SAE
from torch import Tensor

from core.models.hooks import Model


def bos_id(tokenizer: Any, *, d_vocab: int | None = None) -> int | None:
    """The token that begins a text for this tokenizer; None where it has none.

    With `d_vocab`, it must be one of the model's tokens.
    """
    for name in ("bos_token", "cls_token"):
        token = getattr(tokenizer, name, None)
        if token is None:
            continue
        number = tokenizer.convert_tokens_to_ids(str(token))
        if not isinstance(number, int) or tokenizer.convert_ids_to_tokens(number) != str(token):
            continue  # the vocabulary lacks it: that is the number of the unknown token
        if _was_known(tokenizer, str(token), number) and (d_vocab is None or number < d_vocab):
            return number
    return None


def trained_with_bos(sae: SAE) -> bool:
    """Whether rows of the SAE's training text began with BOS; yes where its metadata is silent.

    Raises ValueError for a `prepend_bos` that is neither true nor false.
    """
    told: Any = sae.cfg.metadata.prepend_bos
    if told is None:
        return True
    if told not in (True, False):
        raise ValueError(
            f"prepend_bos of the SAE at {sae.cfg.metadata.hook_name} is {told!r}; write true or "
            "false in the metadata of its cfg.json."
        )
    return bool(told)


def token_in_front(model: Model, saes: Sequence[SAE] = ()) -> int | None:
    """The token in front of a text that the model reads for these SAEs; None for nothing.

    Without SAEs, BOS where the tokenizer has one.

    Raises:
        ValueError: SAEs of which some were trained with BOS and others without.
    """
    found = bos_id(model.tokenizer, d_vocab=int(model.cfg.d_vocab))
    if found is None:
        return None
    wanted = [trained_with_bos(sae) and not _lacked_bos(model.tokenizer, sae) for sae in saes]
    if len(set(wanted)) > 1:
        with_it, without = (_name(saes[wanted.index(told)]) for told in (True, False))
        raise ValueError(
            f"The SAE of {with_it} was trained on texts that begin with the beginning-of-text "
            f"token and the one of {without} on texts without it, so no text suits both; "
            "choose SAEs that agree (prepend_bos in cfg.json)."
        )
    return found if all(wanted) else None


def n_leading(model: Model, saes: Sequence[SAE], tokens: Int[Tensor, "batch pos"]) -> int:
    """Positions in front of the text in rows of tokens: 1 where each begins with the BOS that these
    SAEs were trained with, else 0. Raises as `token_in_front`.
    """
    front = token_in_front(model, saes)
    return int(front is not None and bool((tokens[:, 0] == front).all()))


def _was_known(tokenizer: Any, token: str, number: int) -> bool:
    """Whether the tokenizer came with that token, rather than having been given it on loading."""
    loaded = getattr(tokenizer, "init_kwargs", {}).get("added_tokens_decoder")
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if loaded is None or fast is None or number in loaded:
        return True
    # What was added later has no number in the vocabulary itself.
    return bool(fast.model.token_to_id(token) is not None)


def _lacked_bos(tokenizer: Any, sae: SAE) -> bool:
    """Whether the SAE was trained through transformers, where nothing stands in for a BOS."""
    if sae.cfg.metadata.model_class_name != "AutoModelForCausalLM":
        return False
    return getattr(tokenizer, "init_kwargs", {}).get("bos_token") is None


def _name(sae: SAE) -> str:
    return f"{sae.cfg.d_sae:,} latents at {sae.cfg.metadata.hook_name}"
