"""Copies of the demo model in other forms: what differs on disk must not differ in the picture."""
import json
import pathlib
import shutil
import struct

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo/model"


def copy(folder):
    shutil.copytree(DEMO, folder)
    return folder


def read(path):
    """{name: (dtype, shape, bytes)} of a safetensors file."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], data[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]]) for name, t in header.items()}


def write(path, tensors, holes={}):
    """The tensors in `holes` ({name: bytes}) come last: zeros that take no room on disk."""
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        size = holes.get(name, len(data))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))
        file.truncate(8 + len(text) + at)


def rename(path, change):
    write(path, {change(name): tensor for name, tensor in read(path).items()})


def shard(path, count):
    """Splits one file into `count` and an index, as large models come."""
    tensors = list(read(path).items())
    stem, weight_map = path.name.removesuffix(".safetensors"), {}
    for i in range(count):
        name = f"{stem}-{i + 1:05d}-of-{count:05d}.safetensors"
        part = dict(tensors[i::count])
        write(path.with_name(name), part)
        weight_map |= dict.fromkeys(part, name)
    path.with_name(f"{stem}.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    path.unlink()


def convert(path, to):
    """Stores bf16 weights as F32 or F16."""
    out = {}
    for name, (dtype, shape, data) in read(path).items():
        assert dtype == "BF16"
        wide = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
        out[name] = (to, shape, wide.astype("<f4" if to == "F32" else "<f2").tobytes())
    write(path, out)


def weight_files(folder):
    return sorted(p for p in folder.rglob("*.safetensors"))


def clip_as_one_file(folder):
    """vocab.json and merges.txt as a tokenizer.json."""
    vocab = json.loads((folder / "vocab.json").read_text())
    merges = [line for line in (folder / "merges.txt").read_text().splitlines() if line and not line.startswith("#version")]
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": vocab, "merges": merges}}))
    (folder / "vocab.json").unlink()
    (folder / "merges.txt").unlink()
