#!/usr/bin/env python3
"""What transformers' tokenizers make of token_corpus.py's strings -> data/tokens.safetensors, and the small tokenizers under data/tokenizers.

CLIP's own vocabulary (from data/tokenizers/clip/merges.txt), the demo's two tokenizers, and small ones in each dialect found on disk. Arrays:
  text, text.ends             the strings in UTF-8, one after the other, and where each ends
  NAME.ids, NAME.ends         ids of each string without padding, cut to LONGEST tokens; NAME.pad the padding id, NAME.size len(tokenizer)
  NAME.cut.N.{texts,ids,ends} the same cut to N tokens, of some strings that are longer (texts: their numbers)
Tokenizers with an array NAME.every saw only every so many-th string. Ids are U16, the rest I64. Tokenizers that can be made from committed files (links below)
are made by test_tokens.c in the same way."""
import contextlib
import json
import pathlib
import shutil
import tempfile

import numpy as np
import sentencepiece
from safetensors.numpy import save_file
from transformers import CLIPTokenizer, T5Tokenizer

from token_corpus import WORDS, corpus

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE / "data" / "tokenizers"
DEMO = HERE.parents[1] / "demo" / "model"
LONGEST, CUTS, CUT_TEXTS = 512, (32, 77), 40
START, END = "<|startoftext|>", "<|endoftext|>"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def to_json(value):
    return json.dumps(value, ensure_ascii=False, indent=0) + "\n"


# --- CLIP ---


def alphabet():
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(b) for b in shown] + [chr(0x100 + i) for i in range(256 - len(shown))]


def clip_vocabulary(merges):
    """CLIP's simple_tokenizer: bytes, bytes that end a word, merges, the two marks."""
    pieces = alphabet() + [c + "</w>" for c in alphabet()] + [m.replace(" ", "") for m in merges] + [START, END]
    assert len(set(pieces)) == len(pieces)
    return {piece: i for i, piece in enumerate(pieces)}


def mark(content, normalized):
    return {"content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False, "special": True}


def published_config(vocabulary):
    """tokenizer_config.json as in the Flux.1 and SD 3 repositories: the start token is also found in the lower-cased text."""
    ids = {str(vocabulary[START]): mark(START, True), str(vocabulary[END]): mark(END, False)}
    return {"added_tokens_decoder": ids, "bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END, "do_lower_case": True,
            "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}


def old_config():
    """As in the first CLIP repositories: several descriptions of the end token, of which one counts."""
    typed = {"__type": "AddedToken", **{k: v for k, v in mark(START, True).items() if k != "special"}}
    return {"bos_token": typed, "eos_token": typed | {"content": END}, "unk_token": typed | {"content": END}, "pad_token": END, "model_max_length": 77}


def words_config(vocabulary):
    """Tokens added by a user: whole words, words of the normalised text, one with an id that its place in the vocabulary overrules, white space taken along."""
    n = len(vocabulary)
    word = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": True, "special": False}
    added = [mark(START, False), mark(END, False), word | {"content": "<cat-toy>", "single_word": False, "lstrip": True, "rstrip": True},
             word | {"content": "FOX", "normalized": True, "single_word": False}, word | {"content": "\u00e9t\u00e9", "normalized": True},
             word | {"content": "at"}, word | {"content": "cat"}]
    return {"added_tokens_decoder": {str(n - 2 + i): t for i, t in enumerate(added)}, "bos_token": START, "eos_token": END, "pad_token": END,
            "unk_token": END, "additional_special_tokens": ["1girl"]}


def make_small_clip():
    """The first 400 merges, as two files; as tokenizer.json alone; with a published configuration; padded with '!' as the second encoder of SDXL and SD 3; with an
    old configuration; with added words."""
    merges = (DATA / "clip" / "merges.txt").read_text().splitlines()[:400]
    vocabulary = clip_vocabulary(merges)
    for name in ("clip_small", "clip_published", "clip_padded", "clip_old", "clip_words"):
        write(DATA / name / "vocab.json", to_json(vocabulary))
        write(DATA / name / "merges.txt", "#version: 0.2\n" + "\n".join(merges) + "\n")
    write(DATA / "clip_published" / "tokenizer_config.json", to_json(published_config(vocabulary)))
    write(DATA / "clip_padded" / "special_tokens_map.json", to_json({"bos_token": mark(START, True), "eos_token": mark(END, True), "pad_token": "!", "unk_token": mark(END, True)}))
    write(DATA / "clip_old" / "tokenizer_config.json", to_json(old_config()))
    write(DATA / "clip_old" / "special_tokens_map.json", to_json({"eos_token": mark(END, True), "pad_token": END, "unk_token": mark(END, True)}))
    write(DATA / "clip_words" / "tokenizer_config.json", to_json(words_config(vocabulary)))
    CLIPTokenizer.from_pretrained(DATA / "clip_small").backend_tokenizer.save(str(DATA / "clip_json.json"))
    whole = json.loads((DATA / "clip_json.json").read_text())
    (DATA / "clip_json.json").unlink()
    for token in whole["added_tokens"]:
        token["normalized"] = token["content"] == END
    write(DATA / "clip_json" / "tokenizer.json", to_json(whole))


# --- T5 ---

RULES = ["FB01\t66 69", "FF21\t41", "3000\t20", "AD\t", "E9\t65 301", "65 301\tE9", "1F98A\t66 6F 78", "C5\t41", "9\t20", "A0\t20", "1F468 200D\t6D"]


def train_spiece(folder):
    """spiece.model with few pieces and a few rules of its own, so that it is small."""
    folder.mkdir(parents=True)
    sentences = [f"{a} {b}, {a.title()} {b}'s 12 of 3.5 caf\u00e9 \u72d0\u72f8 \u043b\u0438\u0441\u0430" for a in WORDS for b in WORDS[::3]]
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):  # the model records the paths it was made with
        pathlib.Path("rules.tsv").write_text("\n".join(RULES) + "\n")
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences), model_prefix="spiece", model_type="unigram", vocab_size=400, hard_vocab_limit=False,
            normalization_rule_tsv="rules.tsv", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, num_threads=1, minloglevel=2,
            user_defined_symbols=["<mark>"])
        shutil.copy("spiece.model", folder)


def make_small_t5():
    train_spiece(DATA / "t5_spiece")
    with tempfile.TemporaryDirectory() as scratch:
        T5Tokenizer.from_pretrained(DATA / "t5_spiece").save_pretrained(scratch)
        whole = json.loads(pathlib.Path(scratch, "tokenizer.json").read_text())
    charsmap = whole["normalizer"]
    assert charsmap["type"] == "Precompiled"

    write(DATA / "t5_charsmap" / "tokenizer.json", to_json(whole))

    write(DATA / "t5_plain" / "tokenizer.json", to_json(whole | {"normalizer": None}))
    write(DATA / "t5_plain" / "tokenizer_config.json", to_json({"extra_ids": 0, "model_max_length": 10**30}))

    steps = [charsmap, {"type": "Strip", "strip_left": False, "strip_right": True}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}]
    write(DATA / "t5_sequence" / "tokenizer.json", to_json(whole | {"normalizer": {"type": "Sequence", "normalizers": steps}}))

    tokens = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in whole["added_tokens"]}
    for t in tokens.values():
        t["lstrip"] = t["rstrip"] = t["content"].startswith("<extra")
    names = [f"<extra_id_{i}>" for i in range(100)]
    config = {"added_tokens_decoder": tokens, "additional_special_tokens": names, "extra_ids": 100, "model_max_length": 512, "legacy": True,
              "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "tokenizer_class": "T5Tokenizer"}
    write(DATA / "t5_extra" / "tokenizer.json", to_json(whole))
    write(DATA / "t5_extra" / "tokenizer_config.json", to_json(config))


# --- recording ---


def encode(tokenizer, text, length):
    return tokenizer(text, max_length=length, truncation=True)["input_ids"]


def flat(lists):
    ids = np.array([i for l in lists for i in l], np.int64)
    assert 0 <= ids.min() and ids.max() < 2**16
    return ids.astype(np.uint16), np.cumsum([len(l) for l in lists], dtype=np.int64)


def record(arrays, name, tokenizer, texts, every):
    arrays[f"{name}.every"] = np.array([every], np.int64)
    arrays[f"{name}.pad"] = np.array([tokenizer.pad_token_id], np.int64)
    arrays[f"{name}.size"] = np.array([len(tokenizer)], np.int64)
    numbers = range(0, len(texts), every)
    lists = [encode(tokenizer, texts[i], LONGEST) for i in numbers]
    arrays[f"{name}.ids"], arrays[f"{name}.ends"] = flat(lists)
    padded = tokenizer("fox", padding="max_length", max_length=LONGEST, truncation=True)["input_ids"]
    assert padded == (p := encode(tokenizer, "fox", LONGEST)) + [tokenizer.pad_token_id] * (LONGEST - len(p))
    for cut in CUTS:
        long = [i for i, l in zip(numbers, lists) if len(l) > cut][:CUT_TEXTS]
        arrays[f"{name}.cut.{cut}.texts"] = np.array(long, np.int64)
        arrays[f"{name}.cut.{cut}.ids"], arrays[f"{name}.cut.{cut}.ends"] = flat([encode(tokenizer, texts[i], cut) for i in long])


def main():
    for folder in DATA.glob("*_*"):
        shutil.rmtree(folder)
    make_small_clip()
    make_small_t5()
    texts = corpus()
    utf8 = [t.encode() for t in texts]
    arrays = {"text": np.frombuffer(b"".join(utf8), np.uint8), "text.ends": np.cumsum([len(u) for u in utf8], dtype=np.int64)}
    with tempfile.TemporaryDirectory() as scratch:
        clip, spiece = pathlib.Path(scratch, "clip"), pathlib.Path(scratch, "spiece")
        merges = (DATA / "clip" / "merges.txt").read_text().splitlines()
        write(clip / "vocab.json", to_json(clip_vocabulary(merges)))
        write(clip / "merges.txt", "\n".join(merges) + "\n")
        spiece.mkdir()
        shutil.copy(DEMO / "tokenizer_2" / "spiece.model", spiece)
        record(arrays, "clip", CLIPTokenizer.from_pretrained(clip), texts, 1)
        record(arrays, "demo_clip", CLIPTokenizer.from_pretrained(DEMO / "tokenizer"), texts, 1)
        record(arrays, "demo_t5", T5Tokenizer.from_pretrained(DEMO / "tokenizer_2"), texts, 1)
        record(arrays, "demo_spiece", T5Tokenizer.from_pretrained(spiece), texts, 4)
        for name in ("clip_small", "clip_json", "clip_published", "clip_padded", "clip_old", "clip_words"):
            record(arrays, name, CLIPTokenizer.from_pretrained(DATA / name), texts, 5)
        for name in ("t5_spiece", "t5_charsmap", "t5_plain", "t5_sequence", "t5_extra"):
            record(arrays, name, T5Tokenizer.from_pretrained(DATA / name), texts, 3)
    save_file(arrays, HERE / "data" / "tokens.safetensors")


if __name__ == "__main__":
    main()
