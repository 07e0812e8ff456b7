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


def transformer_shapes(config):
    """{name: shape} of a FluxTransformer2DModel with this config.json."""
    head, n = config["attention_head_dim"], config["attention_head_dim"] * config["num_attention_heads"]
    shapes = {}

    def linear(name, out, size):
        shapes[name + ".weight"], shapes[name + ".bias"] = [out, size], [out]

    linear("x_embedder", n, config["in_channels"])
    linear("context_embedder", n, config["joint_attention_dim"])
    embedders = {"timestep_embedder": 256, "text_embedder": config["pooled_projection_dim"]} | ({"guidance_embedder": 256} if config["guidance_embeds"] else {})
    for name, size in embedders.items():
        linear(f"time_text_embed.{name}.linear_1", n, size)
        linear(f"time_text_embed.{name}.linear_2", n, n)
    for i in range(config["num_layers"]):
        block = f"transformer_blocks.{i}."
        for norm in ("norm1", "norm1_context"):
            linear(f"{block}{norm}.linear", 6 * n, n)
        for name in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"):
            linear(f"{block}attn.{name}", n, n)
        for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            shapes[f"{block}attn.{name}.weight"] = [head]
        for ff in ("ff", "ff_context"):
            linear(f"{block}{ff}.net.0.proj", 4 * n, n)
            linear(f"{block}{ff}.net.2", n, 4 * n)
    for i in range(config["num_single_layers"]):
        block = f"single_transformer_blocks.{i}."
        linear(f"{block}norm.linear", 3 * n, n)
        for name in ("to_q", "to_k", "to_v"):
            linear(f"{block}attn.{name}", n, n)
        for name in ("norm_q", "norm_k"):
            shapes[f"{block}attn.{name}.weight"] = [head]
        linear(f"{block}proj_mlp", 4 * n, n)
        linear(f"{block}proj_out", n, 5 * n)
    linear("norm_out.linear", 2 * n, n)
    linear("proj_out", config["in_channels"], n)
    return shapes


def random_transformer(folder, config, seed=0):
    """config.json and random bf16 weights, written one array after the other: of any size."""
    shapes, header, at, random = transformer_shapes(config), {}, 0, np.random.default_rng(seed)
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 64 + 56)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    with open(folder / "diffusion_pytorch_model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            values = random.standard_normal(shape, np.float32) * (shape[1] ** -0.5 if len(shape) == 2 else 0.1)
            if len(shape) == 1 and "norm_" in name:
                values += 1  # norm_q and its like
            out.write((values.view("<u4") >> 16).astype("<u2").tobytes())


def deepen(folder, doubles, singles):
    """The demo model with a random transformer of so many blocks."""
    path = folder / "transformer/config.json"
    random_transformer(folder / "transformer", json.loads(path.read_text()) | {"num_layers": doubles, "num_single_layers": singles})
