"""Writes demo/model from the training's last checkpoint, whole or not at all, and checks it with diffusers.

The check: FluxPipeline loads the folder and makes the same pictures as the sampler that training shows.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline

import common
import data
from train_flux import LENGTH, SHIFT, STEPS, Model, decode
from train_vae import tensor

LIMIT = 25e6  # bytes in all
CHECKED = (
    "a raccoon on a purple background",
    "fox, blue background",
    "hamburger",
    "a smiling face with sunglasses on a green background",
)
INDEX = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.42.1",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


@torch.no_grad()
def latent_rgb(vae):
    """The linear map from one latent pixel, as the transformer sees it, to its colour in -1..1: for previews."""
    chosen = data.subjects()[::4]
    colors = list(data.BACKGROUNDS.values())
    x = tensor([data.compose(rgba, colors[i % 10]) for i, (_, rgba) in enumerate(chosen)])
    z = (vae.encode(x).latent_dist.mode() - vae.config.shift_factor) * vae.config.scaling_factor
    small = torch.nn.functional.avg_pool2d(x, 8)
    known = torch.cat([z, torch.ones_like(z[:, :1])], 1).movedim(1, -1).flatten(0, -2)
    answer = torch.linalg.lstsq(known, small.movedim(1, -1).flatten(0, -2)).solution
    rows = [[round(v, 4) for v in row] for row in answer.tolist()]
    return {"factors": rows[:16], "bias": rows[16]}


def write(source, folder):
    model = Model(source / "flux")
    vae = AutoencoderKL.from_pretrained(source / "vae", torch_dtype=torch.float32)
    defaults = {"width": data.SIZE, "height": data.SIZE, "steps": STEPS, "guidance": 1.0}
    defaults |= {"max_sequence_length": LENGTH, "latent_rgb": latent_rgb(vae)}
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(source / "flux" / name, folder / name)
    model.to(torch.bfloat16).save(folder)
    vae.to(torch.bfloat16).save_pretrained(folder / "vae")
    FlowMatchEulerDiscreteScheduler(shift=SHIFT, use_dynamic_shifting=False).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(INDEX, indent=2) + "\n")
    (folder / "imagined.json").write_text(json.dumps(defaults) + "\n")
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors are written for the owner alone
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)  # where it lay on this machine
        path.write_text(json.dumps(config, indent=2) + "\n")


def check(folder):
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size <= LIMIT, f"{size} bytes"
    pipe = FluxPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        list(CHECKED),
        width=data.SIZE,
        height=data.SIZE,
        num_inference_steps=STEPS,
        max_sequence_length=LENGTH,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    ).images
    model = Model(folder)
    ours = decode(pipe.vae, model.sample(list(CHECKED), model.noise(len(CHECKED), seed=5)))
    error = (np.stack(ours) / 255.0 - theirs) ** 2
    worst = -10 * np.log10(error.mean((1, 2, 3)).max())
    assert worst > 40, f"diffusers' pictures differ from the sampler's: PSNR {worst:.1f} dB"
    common.log(f"export: {size / 1e6:.2f} MB, diffusers against the sampler: {worst:.1f} dB")
    return ours


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=common.HERE.parent / ".deps" / "train", help="as for train.py")
    options = parser.parse_args()
    new, old = common.HERE / "model.new", common.HERE / "model.old"
    for folder in (new, old):
        shutil.rmtree(folder, ignore_errors=True)
    write(options.out, new)
    data.grid(check(new), len(CHECKED)).save(options.out / "export.png")
    if common.MODEL.exists():
        common.MODEL.rename(old)
    new.rename(common.MODEL)
    shutil.rmtree(old, ignore_errors=True)
