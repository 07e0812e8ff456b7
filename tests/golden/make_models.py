#!/usr/bin/env python3
"""Small random models of the reference implementations and what they compute -> data/models/CASE/ and data/models.safetensors.

CLIP and T5 text encoders (transformers) and the image autoencoder's decoder (diffusers), in the types and spellings found on disk. The
results are computed in float32 from the weights as stored, that is after rounding to the stored type. Array names: CASE.INPUT, CASE.OUTPUT,
with a run number where a case has several shapes."""
import json
import pathlib
import shutil

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.image_processor import VaeImageProcessor
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

DATA = pathlib.Path(__file__).parent / "data"
TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def randomize(model, generator, dtype):
    """Weights large enough that every part of the model shows in its output, as the stored type holds them."""
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            values = values * 0.2 + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        elif "embed" not in name and "shared" not in name and "relative" not in name:
            values = values / parameter[0].numel() ** 0.5
        if name.endswith("SelfAttention.q.weight"):
            values = values / model.config.d_kv**0.5  # T5 does not scale its attention
        parameter.data = values.to(dtype).float()
    return model.eval()


def write(case, config, tensors, stem="model", shards=1):
    folder = DATA / "models" / case
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    if shards == 1:
        save_file(tensors, folder / f"{stem}.safetensors")
    else:
        names, index = sorted(tensors), {}
        for i in range(shards):
            file = f"{stem}-{i + 1:05d}-of-{shards:05d}.safetensors"
            part = {n: tensors[n] for n in names[i::shards]}
            save_file(part, folder / file)
            index.update(dict.fromkeys(part, file))
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}) + "\n")


def stored(model, dtype, keep=lambda name: True):
    return {n: p.detach().to(dtype).contiguous().clone() for n, p in model.state_dict().items() if keep(n) and p.is_floating_point()}


def clip(case, arrays, generator, dtype, prefix, eos, **options):
    config = CLIPTextConfig(vocab_size=61, max_position_embeddings=12, eos_token_id=eos, bos_token_id=0, pad_token_id=1, **options)
    model = randomize(CLIPTextModel(config), generator, TYPES[dtype])
    tensors = {n.removeprefix("text_model."): t for n, t in stored(model, TYPES[dtype]).items()}
    write(case, config.to_dict(), {prefix + n: t for n, t in tensors.items()})
    for run, (batch, count) in enumerate([(1, 12), (3, 7), (2, 1)]):
        ids = torch.randint(3, 50, (batch, count), generator=generator)
        end = 60 if eos == 2 else eos
        for b in range(batch):
            if count > 3:
                ids[b, 2 + b :] = end  # the rest is padded with the end token, as CLIP's tokenizer does
        if eos != 2 and count > 6:
            ids[0, 0] = 60  # larger than the end token, and not it
        result = model(input_ids=ids)
        arrays[f"{case}.{run}.ids"] = ids.numpy()
        arrays[f"{case}.{run}.pooled"] = result.pooler_output.numpy()
        arrays[f"{case}.{run}.hidden"] = result.last_hidden_state.numpy()


def t5(case, arrays, generator, dtype, table, shards=1, **options):
    config = T5Config(vocab_size=53, num_decoder_layers=0, **options)
    model = randomize(T5EncoderModel(config), generator, TYPES[dtype])
    tensors = stored(model, TYPES[dtype])
    weight = tensors.pop("shared.weight")
    tensors.pop("encoder.embed_tokens.weight", None)
    tensors[table] = weight
    write(case, config.to_dict(), tensors, shards=shards)
    for run, (batch, count) in enumerate([(1, 37), (3, 6), (2, 1)]):
        ids = torch.randint(0, 53, (batch, count), generator=generator)
        arrays[f"{case}.{run}.ids"] = ids.numpy()
        arrays[f"{case}.{run}.hidden"] = model(input_ids=ids).last_hidden_state.numpy()


OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def old_name(name):
    for new, old in OLD_NAMES.items():
        name = name.replace(f".{new}.", f".{old}.")
    return name


def vae(case, arrays, generator, dtype, old=False, **options):
    blocks = len(options["block_out_channels"])
    model = AutoencoderKL(down_block_types=["DownEncoderBlock2D"] * blocks, up_block_types=["UpDecoderBlock2D"] * blocks, **options)
    randomize(model, generator, TYPES[dtype])
    tensors = stored(model, TYPES[dtype], lambda n: n.startswith(("decoder.", "post_quant_conv.")))
    if old:
        tensors = {old_name(n): t for n, t in tensors.items()}
    config = {k: v for k, v in model.config.items() if k != "_use_default_values"}  # a set, in any order
    write(case, {"_class_name": "AutoencoderKL", **config}, tensors, stem="diffusion_pytorch_model")
    for run, (batch, height, width) in enumerate([(1, 3, 5), (3, 2, 4), (2, 6, 1)]):
        latents = torch.randn(batch, options["latent_channels"], height, width, generator=generator)
        scaled = latents / model.config.scaling_factor + (model.config.shift_factor or 0.0)
        arrays[f"{case}.{run}.latents"] = latents.numpy()
        arrays[f"{case}.{run}.pixels"] = model.decode(scaled, return_dict=False)[0].numpy()


def ties():
    """Values that land exactly between two bytes in float32 arithmetic."""
    middle = np.float32(2) * ((2 * np.arange(255) + 1) / 510).astype(np.float32) - np.float32(1)
    near = np.concatenate([middle, np.nextafter(middle, np.float32(2)), np.nextafter(middle, np.float32(-2))])
    scaled = (near * np.float32(0.5) + np.float32(0.5)) * np.float32(255)
    found = near[scaled % 1 == 0.5]
    assert len(found) >= 255
    return torch.from_numpy(found[:600])


def rgb(arrays, generator):
    """Bytes of pictures whose values fall between, on and beyond the steps of 1/255."""
    exact = ties()
    values = torch.cat([torch.randn(300, generator=generator), exact, torch.linspace(-1.1, 1.1, 1200 - len(exact))])
    image = values.reshape(1, 3, 20, 25)
    arrays["rgb.values"] = image.numpy()
    arrays["rgb.bytes"] = np.array(VaeImageProcessor().postprocess(image, output_type="pil")[0])


@torch.no_grad()
def main():
    shutil.rmtree(DATA / "models", ignore_errors=True)
    generator, arrays = torch.Generator().manual_seed(20), {}
    clip("clip_quick", arrays, generator, "f32", "text_model.", 2, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
         num_attention_heads=4, hidden_act="quick_gelu")
    clip("clip_gelu", arrays, generator, "bf16", "", 55, hidden_size=40, intermediate_size=64, num_hidden_layers=3,
         num_attention_heads=5, hidden_act="gelu")
    clip("clip_half", arrays, generator, "f16", "", 2, hidden_size=24, intermediate_size=64, num_hidden_layers=1,
         num_attention_heads=1, hidden_act="quick_gelu", layer_norm_eps=1e-3)
    t5("t5_gated", arrays, generator, "f32", "shared.weight", d_model=24, d_kv=10, d_ff=40, num_layers=2, num_heads=3,
       feed_forward_proj="gated-gelu", relative_attention_num_buckets=8, relative_attention_max_distance=20)
    t5("t5_relu", arrays, generator, "f16", "encoder.embed_tokens.weight", d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
       feed_forward_proj="relu", relative_attention_num_buckets=32, relative_attention_max_distance=128)
    t5("t5_silu", arrays, generator, "bf16", "shared.weight", shards=2, d_model=32, d_kv=16, d_ff=64, num_layers=3, num_heads=2,
       feed_forward_proj="gated-silu", relative_attention_num_buckets=16, relative_attention_max_distance=24)
    vae("vae_flux", arrays, generator, "f32", block_out_channels=[8, 16], layers_per_block=1, latent_channels=4, norm_num_groups=4,
        use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.3611, shift_factor=0.1159)
    vae("vae_old", arrays, generator, "f16", old=True, block_out_channels=[8, 16, 16], layers_per_block=1, latent_channels=4,
        norm_num_groups=2, scaling_factor=0.18215)
    vae("vae_plain", arrays, generator, "bf16", block_out_channels=[16], layers_per_block=2, latent_channels=3, norm_num_groups=8,
        mid_block_add_attention=False, scaling_factor=0.5, shift_factor=-0.25)
    rgb(arrays, generator)
    save_arrays({n: np.ascontiguousarray(a) for n, a in arrays.items()}, DATA / "models.safetensors")
    for path in [*DATA.glob("*.safetensors"), *DATA.glob("models/*/*")]:
        path.chmod(0o644)


if __name__ == "__main__":
    main()
