"""Random tiny Flux transformers and what diffusers computes with them, for test_flux.c.

Writes data/flux_NAME/ (config.json and weights, as diffusers lays them out) for each configuration and data/flux.safetensors with the
inputs and results, named "NAME.latents", "NAME.velocity", … Results are computed in float32; where the weights are stored in 16 bits, over
the rounded weights.

Run: .deps/reference/bin/python tests/golden/make_flux.py
"""

import json
import pathlib

import torch
from diffusers import FluxTransformer2DModel
from safetensors.torch import save_file

DATA = pathlib.Path(__file__).parent / "data"

CASES = {
    # name: config, storage type, (rows, columns), text tokens, batch, number of shards
    "guided": (dict(in_channels=8, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=20,
                    pooled_projection_dim=12, guidance_embeds=True, axes_dims_rope=(4, 6, 6)), torch.float32, (3, 5), 7, 2, 1),
    "plain": (dict(in_channels=12, out_channels=6, num_layers=1, num_single_layers=2, attention_head_dim=8, num_attention_heads=3,
                   joint_attention_dim=16, pooled_projection_dim=10, axes_dims_rope=(2, 2, 4)), torch.bfloat16, (6, 2), 3, 1, 1),
    "batch": (dict(in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=32, num_attention_heads=1, joint_attention_dim=8,
                   pooled_projection_dim=6, guidance_embeds=True, axes_dims_rope=(8, 12, 12)), torch.float16, (1, 9), 5, 3, 1),
    "shards": (dict(in_channels=4, num_layers=1, num_single_layers=0, attention_head_dim=6, num_attention_heads=5, joint_attention_dim=9,
                    pooled_projection_dim=7, axes_dims_rope=(2, 2, 2)), torch.float32, (4, 4), 1, 1, 3),
}


def randomise(model):
    """Weights that let every path matter: diffusers' own start has norms of ones and biases of near nothing."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.data = torch.randn_like(parameter) * 0.2 + (1.0 if ".norm_" in name and "linear" not in name else 0.0)
        else:
            parameter.data = torch.randn_like(parameter) / parameter.shape[1] ** 0.5


def save(model, folder, dtype, shards):
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    config = {k: v for k, v in model.config.items() if not k.startswith("_") or k == "_class_name"}
    config["_class_name"] = "FluxTransformer2DModel"
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    weights = {name: tensor.to(dtype).contiguous() for name, tensor in model.state_dict().items()}
    if shards == 1:
        save_file(weights, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
        return
    names, index = sorted(weights), {}
    for i in range(shards):
        file = f"diffusion_pytorch_model-{i + 1:05}-of-{shards:05}.safetensors"
        part = names[i::shards]
        save_file({name: weights[name] for name in part}, folder / file, metadata={"format": "pt"})
        index.update({name: file for name in part})
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}, sort_keys=True) + "\n")


def ids(rows, columns):
    result = torch.zeros(rows, columns, 3)
    result[..., 1] += torch.arange(rows)[:, None]
    result[..., 2] += torch.arange(columns)[None, :]
    return result.reshape(-1, 3)


def main():
    arrays = {}
    for seed, (name, (config, dtype, (rows, columns), text, batch, shards)) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        model = FluxTransformer2DModel(**config).eval()
        randomise(model)
        save(model, DATA / f"flux_{name}", dtype, shards)
        model.to(dtype).to(torch.float32)
        inputs = {
            "latents": torch.randn(batch, rows * columns, config["in_channels"]),
            "hidden": torch.randn(batch, text, config["joint_attention_dim"]),
            "pooled": torch.randn(batch, config["pooled_projection_dim"]),
            "timesteps": torch.tensor([0.9871, 0.25, 0.004][:batch]),
        }
        if config.get("guidance_embeds"):
            inputs["guidance"] = torch.tensor([3.5, 1.0, 7.25][:batch])
        with torch.no_grad():
            velocity = model(inputs["latents"], inputs["hidden"], inputs["pooled"], inputs["timesteps"], ids(rows, columns), torch.zeros(text, 3),
                             inputs.get("guidance"), return_dict=False)[0]
        arrays.update({f"{name}.{key}": value for key, value in inputs.items()})
        arrays[f"{name}.velocity"] = velocity
        arrays[f"{name}.shape"] = torch.tensor([rows, columns, text, batch])
    save_file({key: value.contiguous() for key, value in arrays.items()}, DATA / "flux.safetensors")


if __name__ == "__main__":
    main()
