#!/usr/bin/env python3
"""Small random image encoders of diffusers and the latents that they make -> data/encoders/CASE/ and data/encoders.safetensors.

The folders hold the encoder's half of the weights alone. Latents are the distribution's mode, shifted and scaled as FluxImg2ImgPipeline
does it, in float32 from the weights as stored. Array names: CASE.RUN.pixels, CASE.RUN.latents."""
import json
import shutil

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.image_processor import VaeImageProcessor
from PIL import Image
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from make_models import DATA, TYPES, old_name, randomize, stored


def encoder(case, arrays, generator, dtype, old=False, **options):
    blocks = len(options["block_out_channels"])
    model = AutoencoderKL(down_block_types=["DownEncoderBlock2D"] * blocks, up_block_types=["UpDecoderBlock2D"] * blocks, **options)
    randomize(model, generator, TYPES[dtype])
    tensors = stored(model, TYPES[dtype], lambda n: n.startswith(("encoder.", "quant_conv.")))
    if old:
        tensors = {old_name(n): t for n, t in tensors.items()}
    folder = DATA / "encoders" / case
    folder.mkdir(parents=True)
    config = {k: v for k, v in model.config.items() if k != "_use_default_values"}  # a set, in any order
    (folder / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL", **config}, indent=1, sort_keys=True) + "\n")
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    factor, shift = 2 ** (blocks - 1), model.config.shift_factor or 0.0
    for run, (batch, height, width) in enumerate([(1, 3, 5), (3, 2, 4), (2, 6, 1)]):
        pixels = torch.rand(batch, 3, height * factor, width * factor, generator=generator) * 2 - 1
        mean = model.encode(pixels).latent_dist.mode()
        arrays[f"{case}.{run}.pixels"] = pixels.numpy()
        arrays[f"{case}.{run}.latents"] = ((mean - shift) * model.config.scaling_factor).numpy()


def rgb(arrays):
    """Every byte, as the values that the encoder is given."""
    values = np.arange(256 * 3, dtype=np.uint32) * 7 % 256
    picture = values.astype(np.uint8).reshape(16, 16, 3)
    arrays["rgb.bytes"] = picture
    arrays["rgb.values"] = VaeImageProcessor(vae_scale_factor=8).preprocess(Image.fromarray(picture)).numpy()


@torch.no_grad()
def main():
    shutil.rmtree(DATA / "encoders", ignore_errors=True)
    generator, arrays = torch.Generator().manual_seed(21), {}
    encoder("flux", arrays, generator, "f32", block_out_channels=[8, 16], layers_per_block=2, latent_channels=4, norm_num_groups=4,
            use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.3611, shift_factor=0.1159)
    encoder("old", arrays, generator, "f16", old=True, block_out_channels=[8, 16, 16], layers_per_block=1, latent_channels=4,
            norm_num_groups=2, scaling_factor=0.18215)
    encoder("plain", arrays, generator, "bf16", block_out_channels=[16], layers_per_block=1, latent_channels=3, norm_num_groups=8,
            mid_block_add_attention=False, scaling_factor=0.5, shift_factor=-0.25)
    rgb(arrays)
    save_arrays({n: np.ascontiguousarray(a) for n, a in arrays.items()}, DATA / "encoders.safetensors")
    for path in [DATA / "encoders.safetensors", *DATA.glob("encoders/*/*")]:
        path.chmod(0o644)


if __name__ == "__main__":
    main()
