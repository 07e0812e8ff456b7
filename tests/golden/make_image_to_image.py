#!/usr/bin/env python3
"""Pictures that diffusers' FluxImg2ImgPipeline and FluxInpaintPipeline make of another with the demo model -> data/image_to_image.safetensors.

In float32 on the CPU. The picture's latents are the mode of the encoder's distribution, not a sample of it. Arrays: "picture", "mask" (of the
latent's cells), "strength.N" with "result.N", and "painted.N" with the mask."""
import pathlib

import numpy as np
import torch
from diffusers import FluxImg2ImgPipeline, FluxInpaintPipeline
from PIL import Image
from safetensors.numpy import save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "tests/golden/data"
PROMPT, SEED, STEPS, TOKENS, SIDE = "a fox on a blue background", 77, 8, 32, 128
STRENGTHS = [0.3, 0.6, 1.0]


def encode_mode(pipe):
    def encode(image, generator):
        return (pipe.vae.encode(image).latent_dist.mode() - pipe.vae.config.shift_factor) * pipe.vae.config.scaling_factor

    return encode


def main():
    picture = Image.open(DATA / "pictures/00.png").convert("RGB")
    assert picture.size == (SIDE, SIDE)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[24:104, 40:88] = 255
    arrays = {"picture": np.array(picture), "mask": np.ascontiguousarray((mask[::8, ::8] / 255).astype(np.float32)),
              "strengths": np.array(STRENGTHS, np.float32)}
    whole = FluxImg2ImgPipeline.from_pretrained(ROOT / "demo/model", torch_dtype=torch.float32)
    masked = FluxInpaintPipeline(**whole.components)
    for name, pipe, more in [("result", whole, {}), ("painted", masked, {"mask_image": Image.fromarray(mask)})]:
        pipe._encode_vae_image = encode_mode(pipe)
        pipe.set_progress_bar_config(disable=True)
        for i, strength in enumerate(STRENGTHS):
            image = pipe(prompt=PROMPT, image=picture, strength=strength, num_inference_steps=STEPS, guidance_scale=1.0, height=SIDE, width=SIDE,
                         max_sequence_length=TOKENS, generator=torch.Generator().manual_seed(SEED), **more).images[0]
            arrays[f"{name}.{i}"] = np.array(image)
    save_file(arrays, DATA / "image_to_image.safetensors")
    (DATA / "image_to_image.safetensors").chmod(0o644)


if __name__ == "__main__":
    main()
