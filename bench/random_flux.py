"""A transformer of Flux.1-dev's shape with random bf16 weights (24 GB), for measuring without its weights.

Usage: python bench/random_flux.py FOLDER [KEY=NUMBER …]     numbers that replace those of config.json: num_layers=4 num_attention_heads=8 …
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/http"))
import models

CONFIG = {"_class_name": "FluxTransformer2DModel", "patch_size": 1, "in_channels": 64, "num_layers": 19, "num_single_layers": 38,
          "attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True,
          "axes_dims_rope": [16, 56, 56]}

if __name__ == "__main__":
    changes = dict(word.split("=") for word in sys.argv[2:])
    assert changes.keys() <= CONFIG.keys(), f"config.json has {', '.join(CONFIG)}"
    models.random_transformer(pathlib.Path(sys.argv[1]), CONFIG | {key: int(value) for key, value in changes.items()})
