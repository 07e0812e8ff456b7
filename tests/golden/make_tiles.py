"""Latents that the demo model makes -> data/tiles.safetensors: what test_tiles decodes whole and in tiles, as diffusers' FluxPipeline hands them to
its VAE's decoder before it divides by the scaling factor.

Run with the reference environment (tests/golden/requirements.txt):  python tests/golden/make_tiles.py
"""
import pathlib

import torch
from diffusers import FluxPipeline
from safetensors.numpy import save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
CASES = [(256, 256, "a fox on a blue background", 42), (512, 384, "a raccoon on a purple background", 1)]


def main():
    pipe = FluxPipeline.from_pretrained(ROOT / "demo/model", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    arrays = {}
    for width, height, prompt, seed in CASES:
        packed = pipe(
            prompt=prompt, width=width, height=height, num_inference_steps=12, guidance_scale=1.0, max_sequence_length=32,
            generator=torch.Generator("cpu").manual_seed(seed), output_type="latent",
        ).images
        arrays[f"{width}x{height}"] = pipe._unpack_latents(packed, height, width, pipe.vae_scale_factor)[0].contiguous().numpy()
    save_file(arrays, ROOT / "tests/golden/data/tiles.safetensors")


if __name__ == "__main__":
    main()
