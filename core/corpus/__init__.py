"""Text to run a model on: where it comes from, and how it becomes rows of tokens.

    corpus = docs_sample()                                   # or pasted_text, text_file, ...
    packing = default_packing(model, sae)
    token_set = load_token_set(corpus, model.tokenizer, packing, store=store)

    prompt = prompt_for(model, [sae], "a text that was typed")

A `TokenSet` holds the tokens (5 bytes a position) and never the text: decode on display.
"""

from core.corpus.bos import bos_id, token_in_front
from core.corpus.docs import DOCS_SAMPLE_TOKENS, docs_sample
from core.corpus.documents import Corpus, Document, pasted_text
from core.corpus.files import file_columns, text_file
from core.corpus.hub_dataset import hub_dataset, proposed_dataset
from core.corpus.load import default_packing, load_token_set, prompt_tokens
from core.corpus.packing import Packing, pack
from core.corpus.prompt import Prompt, prompt_for, reading_notes
from core.corpus.row_length import DEFAULT_CONTEXT, MOST_CONTEXT
from core.corpus.token_set import TokenSet
from core.corpus.tokenize import tokenize_documents, tokenizer_digest

__all__ = [
    "DEFAULT_CONTEXT",
    "DOCS_SAMPLE_TOKENS",
    "MOST_CONTEXT",
    "Corpus",
    "Document",
    "Packing",
    "Prompt",
    "TokenSet",
    "bos_id",
    "default_packing",
    "docs_sample",
    "file_columns",
    "hub_dataset",
    "load_token_set",
    "pack",
    "pasted_text",
    "prompt_for",
    "prompt_tokens",
    "proposed_dataset",
    "reading_notes",
    "text_file",
    "token_in_front",
    "tokenize_documents",
    "tokenizer_digest",
]
