"""Model folders in the forms they come in, and broken: the same picture from each form, a named fault from each break."""
import json
import os
import pathlib
import struct
import subprocess

import numpy as np
import pytest
from PIL import Image

import models

BINARY = pathlib.Path(__file__).resolve().parents[2] / "build/imagined"


def generate(folder, path, *more, check=True):
    answer = subprocess.run([BINARY, "generate", "a raccoon on a purple background", "--seed", "1", "--steps", "4", "--model", folder, "-o", path, "-q",
                             *more], capture_output=True, text=True, timeout=120)
    assert not check or answer.returncode == 0, answer.stderr
    return answer


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"), np.float64)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "plain.png"
    generate(models.DEMO, path, "--precision", "f32")
    return pixels(path)


def prefix_clip(folder):
    old = models.read(folder / "text_encoder/model.safetensors")
    has = any(name.startswith("text_model.") for name in old)
    models.rename(folder / "text_encoder/model.safetensors", lambda n: n.removeprefix("text_model.") if has else "text_model." + n)


def rename_t5_table(folder):
    names = {"shared.weight": "encoder.embed_tokens.weight", "encoder.embed_tokens.weight": "shared.weight"}
    models.rename(folder / "text_encoder_2/model.safetensors", lambda n: names.get(n, n))


def shard_all(folder):
    models.shard(folder / "transformer/diffusion_pytorch_model.safetensors", 3)
    models.shard(folder / "text_encoder_2/model.safetensors", 2)


def store_as_f32(folder):
    for path in models.weight_files(folder):
        models.convert(path, "F32")


@pytest.mark.parametrize("change", [
    prefix_clip, rename_t5_table, shard_all, store_as_f32,
    lambda f: models.clip_as_one_file(f / "tokenizer"),
    lambda f: (f / "tokenizer_2/tokenizer.json").unlink(),
    lambda f: (f / "tokenizer_2/spiece.model").unlink(),
], ids=["clip-prefix", "t5-table", "shards", "f32", "clip-tokenizer.json", "spiece.model", "t5-tokenizer.json"])
def test_each_form_on_disk_gives_the_same_picture(change, plain, tmp_path):
    folder = models.copy(tmp_path / "model")
    change(folder)
    generate(folder, tmp_path / "a.png", "--precision", "f32")
    assert np.array_equal(pixels(tmp_path / "a.png"), plain)


def test_weights_stored_as_f16_give_nearly_the_same_picture(plain, tmp_path):
    folder = models.copy(tmp_path / "model")
    for path in models.weight_files(folder):
        models.convert(path, "F16")
    generate(folder, tmp_path / "a.png", "--precision", "f32")
    error = np.mean((pixels(tmp_path / "a.png") - plain) ** 2)
    assert error == 0 or 10 * np.log10(255**2 / error) >= 35


def truncate(path, size):
    os.truncate(path, size)


def without(path, name):
    models.write(path, {n: t for n, t in models.read(path).items() if n != name})


def misshape(path, name):
    tensors = models.read(path)
    dtype, shape, data = tensors[name]
    tensors[name] = (dtype, shape[::-1] if len(shape) > 1 and shape[0] != shape[1] else [1, *shape], data)
    models.write(path, tensors)


def set_key(path, key, value):
    config = json.loads(path.read_text())
    config[key] = value
    path.write_text(json.dumps(config))


TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("damage, words", [
    (lambda f: (f / TRANSFORMER).unlink(), ["transformer"]),
    (lambda f: truncate(f / TRANSFORMER, 5), ["diffusion_pytorch_model.safetensors"]),
    (lambda f: truncate(f / TRANSFORMER, 1000), ["diffusion_pytorch_model.safetensors"]),
    (lambda f: truncate(f / TRANSFORMER, 1000000), ["diffusion_pytorch_model.safetensors"]),
    (lambda f: (f / TRANSFORMER).write_bytes(struct.pack("<Q", 2**63) + b"{}"), ["diffusion_pytorch_model.safetensors"]),
    (lambda f: without(f / TRANSFORMER, "x_embedder.weight"), ["transformer", "x_embedder.weight"]),
    (lambda f: misshape(f / TRANSFORMER, "context_embedder.weight"), ["transformer", "context_embedder.weight"]),
    (lambda f: without(f / "vae/diffusion_pytorch_model.safetensors", "decoder.conv_in.weight"), ["vae", "decoder.conv_in.weight"]),
    (lambda f: (f / "vae/config.json").write_text("{"), ["vae/config.json"]),
    (lambda f: set_key(f / "transformer/config.json", "num_attention_heads", "many"), ["transformer/config.json", "num_attention_heads"]),
    (lambda f: set_key(f / "transformer/config.json", "num_layers", -1), ["transformer/config.json", "num_layers"]),
    (lambda f: set_key(f / "transformer/config.json", "num_layers", 2**31), ["transformer/config.json", "num_layers"]),
    (lambda f: set_key(f / "text_encoder/config.json", "hidden_size", 7), ["text_encoder"]),
    (lambda f: set_key(f / "text_encoder_2/config.json", "num_heads", 0), ["text_encoder_2", "num_heads"]),
    (lambda f: set_key(f / "scheduler/scheduler_config.json", "use_karras_sigmas", True), ["scheduler_config.json", "karras"]),
    (lambda f: (f / "tokenizer/merges.txt").write_text("a b c d\nq\n"), ["merges.txt"]),
    (lambda f: (f / "tokenizer_2/tokenizer.json").write_text("[]"), ["tokenizer_2/tokenizer.json"]),
    (lambda f: (f / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}'), ["StableDiffusionPipeline"]),
])
def test_a_broken_folder_is_a_named_fault(damage, words, tmp_path):
    folder = models.copy(tmp_path / "model")
    damage(folder)
    answer = generate(folder, tmp_path / "a.png", check=False)
    assert answer.returncode == 1, answer.stderr
    for word in words:
        assert word in answer.stderr, answer.stderr
    assert not (tmp_path / "a.png").exists()
