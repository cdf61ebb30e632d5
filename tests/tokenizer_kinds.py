"""Tokenizers of every kind that users bring, small and made without a network."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    BertTokenizer,
    ByT5Tokenizer,
    GemmaTokenizer,
    LlamaTokenizer,
    PreTrainedTokenizer,
    PreTrainedTokenizerFast,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tests.builders import train_tiny_tokenizer

BYTES = [f"<0x{number:02X}>" for number in range(256)]
WORDS = ["▁the", "the", "▁mean", "mean", "▁of", "of", "▁Return", "▁an", "'s", "▁'s", "▁.", "▁▁"]


def with_merges(begin: list[str], words: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary that begins with `begin`, and the merges that build each word from its left."""
    vocab: dict[str, int] = {}
    for piece in [*begin, "▁", *sorted(set("".join(words) + "Returnthemaofysc.',x$<>b&;:="))]:
        vocab.setdefault(piece, len(vocab))
    merges = []
    for word in words:
        for end in range(2, len(word) + 1):
            vocab.setdefault(word[:end], len(vocab))
            if (word[: end - 1], word[end - 1]) not in merges:
                merges.append((word[: end - 1], word[end - 1]))
    return vocab, merges


def gpt2() -> Any:
    """Byte-level."""
    return train_tiny_tokenizer()


def llama2() -> Any:
    """SentencePiece-BPE with byte fallback and a decoder that strips."""
    vocab, merges = with_merges(["<unk>", "<s>", "</s>", *BYTES], WORDS)
    return LlamaTokenizer(vocab=vocab, merges=merges)


def llama3() -> Any:
    """Byte-level, and decoding tidies spaces away."""
    tokenizer = train_tiny_tokenizer()
    tokenizer.clean_up_tokenization_spaces = True
    return tokenizer


def gemma() -> Any:
    """`▁` without stripping; line breaks and runs of spaces are tokens beside those of bytes."""
    begin = ["<pad>", "<eos>", "<bos>", "<unk>", "\n", "\n\n", "▁▁▁", *BYTES]
    vocab, merges = with_merges(begin, WORDS)
    tokenizer = GemmaTokenizer(vocab=vocab, merges=merges)
    tokenizer.add_tokens([AddedToken("<b>", normalized=False), AddedToken("  ", normalized=False)])
    return tokenizer


def mistral() -> Any:
    """As Mistral-7B's file: a space before the first word only, byte fallback, control tokens."""
    begin = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", *BYTES]
    vocab, merges = with_merges(begin, WORDS)
    tokenizer = Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>", "[INST]", "[/INST]"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def metaspace() -> Any:
    """As T5's: a decoder of its own for `▁`, without byte fallback."""
    vocab, merges = with_merges(["<unk>", "</s>"], WORDS)
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


def bert() -> Any:
    """WordPiece, which lower-cases; its decoder drops spaces before signs."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "mean", "##s", "##of", "return"]
    words += ["##.", "##,", "don", "'", "t", *".,$<>&;:x`*_b/", "naive", "##x", "of", "an"]
    return BertTokenizer(vocab={word: number for number, word in enumerate(dict.fromkeys(words))})


def byt5() -> Any:
    """Bytes, in Python, without a backend."""
    return ByT5Tokenizer()


class Characters(PreTrainedTokenizer):
    """Every character is a token of its own."""

    def __init__(self, characters: str, **options: Any) -> None:
        self._numbers = {it: number for number, it in enumerate(dict.fromkeys(characters))}
        super().__init__(**options)

    @property
    def vocab_size(self) -> int:
        return len(self._numbers)

    def get_vocab(self) -> dict[str, int]:
        return {**self._numbers, **self.added_tokens_encoder}

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        return list(text)

    def _convert_token_to_id(self, token: str) -> int:
        return self._numbers[token]

    def _convert_id_to_token(self, index: int) -> str:
        return list(self._numbers)[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens)


def characters() -> Any:
    """Characters, in Python; those that stand for spaces elsewhere are plain letters here."""
    beyond = "▁Ġ日本語😀👩👧שלום\u202e\u202c\u200d\u200f\u0301▲İﬁ"
    return Characters("".join(map(chr, range(256))) + beyond)


def with_added() -> Any:
    """Byte-level, with tokens added that are not special, one of them spelled like another."""
    tokenizer = train_tiny_tokenizer()
    tokenizer.add_tokens(["<think>", "日本", "ż", "    ", " the", "<0xE6>"])
    return tokenizer


def with_holes() -> Any:
    """Ids with gaps, so that some lie beyond the tokenizer's length."""
    vocab = {"<unk>": 0, "a": 1, "▁": 2, "b": 40, "ab": 900}
    tokenizer = Tokenizer(models.BPE(vocab, [("a", "b")], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Replace("▁", " ")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def without_decoder() -> Any:
    """Whole words, joined with spaces for want of a decoder."""
    words = ["[UNK]", "the", "mean", "of", "naive"]
    tokenizer = Tokenizer(models.WordLevel({it: n for n, it in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


def clip() -> Any:
    """Pieces that end words are marked."""
    words = ["<unk>", "t", "h", "e", "e</w>", "th", "the</w>", "m</w>", "m"]
    merges = [("t", "h"), ("th", "e</w>")]
    tokenizer = Tokenizer(
        models.BPE(
            {it: n for n, it in enumerate(words)},
            merges,
            unk_token="<unk>",
            end_of_word_suffix="</w>",
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def byte_level_text(tokenizer: Any, ids: Iterable[int]) -> str:
    """What ids of a byte-level tokenizer stand for; bytes of no whole character as `<0xE2>`."""
    numbers = {character: byte for byte, character in bytes_to_unicode().items()}
    pieces = tokenizer.convert_ids_to_tokens([int(it) for it in ids])
    raw = bytes(numbers[character] for piece in pieces for character in piece)
    shown = raw.decode("utf-8", errors="backslashreplace")
    return re.sub(r"\\x(..)", lambda byte: f"<0x{byte[1].upper()}>", shown)


EXACT: dict[str, Callable[[], Any]] = {
    "GPT-2": gpt2,
    "Llama-2": llama2,
    "Llama-3": llama3,
    "Gemma": gemma,
    "Mistral": mistral,
    "ByT5": byt5,
    "added tokens": with_added,
}
"""Those that keep every character of a text."""
LOSSY: dict[str, Callable[[], Any]] = {
    "BERT": bert,
    "T5": metaspace,
    "ids with holes": with_holes,
    "no decoder": without_decoder,
    "CLIP": clip,
}
"""Those that do not: they lower-case, or know some words or letters only."""
