"""Trains the two tokenizers on the captions: small vocabularies, the real formats, any string accepted.

CLIP's is byte-level BPE: 256 bytes, the same 256 ending a word, then the merges, then the two marks.
T5's is a SentencePiece unigram model (nmt_nfkc normalisation); what it cannot spell becomes <unk>.
(The file cannot be called tokenizers.py: that would hide the library of this name.)
"""

import json
import string
import tempfile
from pathlib import Path

import sentencepiece
from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer, T5Tokenizer

import data

LENGTH = 32  # tokens a prompt is cut and padded to, in both
CLIP_MERGES, T5_PIECES = 1000, 1000
START, END = "<|startoftext|>", "<|endoftext|>"


def captions():
    """Names far more often than the ten colours, so that nearly every word becomes one token."""
    colors = list(data.BACKGROUNDS)
    names = [name for name, _ in data.subjects()]
    return [data.caption(n, colors[(i + f) % 10], f) for i, n in enumerate(names) for f in range(data.FORMS)]


def bytes_as_letters():
    """Byte-level BPE writes each byte as one printable character: the vocabulary begins with them in this order."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in shown]
    letters = [chr(b) for b in shown] + [chr(256 + i) for i in range(len(rest))]
    assert sorted(letters) == sorted(pre_tokenizers.ByteLevel.alphabet())
    return letters


def merges(texts, count):
    """The pairs to join, most frequent first; among equals, the first in alphabetical order."""
    empty = CLIPTokenizer(vocab={START: 0, END: 1}, merges=[])._tokenizer
    words = {}
    for text in texts:
        for word, _ in empty.pre_tokenizer.pre_tokenize_str(empty.normalizer.normalize_str(text)):
            key = (*word[:-1], word[-1] + "</w>")
            words[key] = words.get(key, 0) + 1
    found = []
    while len(found) < count:
        pairs = {}
        for word, times in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] = pairs.get(pair, 0) + times
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(best)
        words = {joined(word, best): times for word, times in words.items()}
    return found


def joined(word, pair):
    out, i = [], 0
    while i < len(word):
        if word[i : i + 2] == pair:
            out.append(word[i] + word[i + 1])
            i += 2
        else:
            out.append(word[i])
            i += 1
    return tuple(out)


def make_clip(folder, texts):
    folder.mkdir(parents=True)
    pairs = merges(texts, CLIP_MERGES)
    letters = bytes_as_letters()
    pieces = letters + [c + "</w>" for c in letters] + [a + b for a, b in pairs] + [START, END]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in pairs))
    marks = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": LENGTH,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
    }
    describe(folder, config, marks)


def make_t5(folder, texts):
    with tempfile.TemporaryDirectory() as scratch:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_prefix=f"{scratch}/spiece",
            model_type="unigram",
            vocab_size=T5_PIECES,
            hard_vocab_limit=False,
            character_coverage=1.0,
            required_chars=string.ascii_letters + string.digits + string.punctuation,
            normalization_rule_name="nmt_nfkc",
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
        T5Tokenizer.from_pretrained(scratch, extra_ids=0).save_pretrained(folder)
        (folder / "spiece.model").write_bytes(Path(scratch, "spiece.model").read_bytes())


    marks = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    describe(folder, {"tokenizer_class": "T5Tokenizer", "model_max_length": LENGTH, "extra_ids": 0}, marks)


def describe(folder, config, marks):
    (folder / "tokenizer_config.json").write_text(json.dumps(config | marks, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(marks, indent=2) + "\n")


def make(folder):
    """tokenizer/ and tokenizer_2/ below the folder."""
    texts = captions()
    make_clip(folder / "tokenizer", texts)
    make_t5(folder / "tokenizer_2", texts)


if __name__ == "__main__":
    import sys

    make(Path(sys.argv[1]))
