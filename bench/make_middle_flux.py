"""A Flux of middle size with random weights (298 M parameters in bf16), for measuring: real shapes of work without real weights.

Usage: python bench/make_middle_flux.py FOLDER     (needs tests/golden/requirements.txt)
"""
import json
import pathlib
import shutil
import sys

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

DEMO = pathlib.Path(__file__).resolve().parents[1] / "demo/model"


def config(part):
    return json.loads((DEMO / part / "config.json").read_text())


def main(out):
    torch.manual_seed(0)
    out.mkdir(parents=True)
    shutil.copy(DEMO / "model_index.json", out)
    for part in ("tokenizer", "tokenizer_2", "scheduler"):
        shutil.copytree(DEMO / part, out / part)
    (out / "imagined.json").write_text(json.dumps({"width": 256, "height": 256, "steps": 4, "guidance": 0, "max_sequence_length": 256}))
    clip = {**config("text_encoder"), "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4}
    t5 = {**config("text_encoder_2"), "d_model": 512, "d_kv": 64, "num_heads": 8, "d_ff": 1024, "num_layers": 4}
    CLIPTextModel(CLIPTextConfig(**clip)).bfloat16().save_pretrained(out / "text_encoder")
    T5EncoderModel(T5Config(**t5)).bfloat16().save_pretrained(out / "text_encoder_2")
    torch.set_default_dtype(torch.bfloat16)
    FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=4, num_single_layers=9, attention_head_dim=128, num_attention_heads=8, joint_attention_dim=512,
        pooled_projection_dim=256, guidance_embeds=False, axes_dims_rope=(16, 56, 56),
    ).save_pretrained(out / "transformer")
    AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[64, 128, 256, 256], layers_per_block=2, latent_channels=16, norm_num_groups=32, scaling_factor=0.3611,
        shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False,
    ).save_pretrained(out / "vae")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
