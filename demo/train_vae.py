"""Stage 1: the autoencoder, 128 x 128 pixels to 16 channels of 16 x 16 and back."""

import random

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

import common
import data

CROP, BATCH = 64, 8  # small crops and many small steps: whole pictures learn far slower
RATE = 1e-3
NOISE = 0.05  # on the latent, so that the decoder forgives the transformer's small errors

CONFIG = dict(
    in_channels=3,
    out_channels=3,
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(16, 32, 64, 96),
    layers_per_block=1,
    latent_channels=16,
    norm_num_groups=8,
    sample_size=data.SIZE,
    use_quant_conv=False,
    use_post_quant_conv=False,
    mid_block_add_attention=False,
)


def tensor(pictures):
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def pictures(batch):
    return list(batch.clamp(-1, 1).add(1).mul(127.5).round().permute(0, 2, 3, 1).byte().numpy())


def psnr(vae, images, pool, batch=16):
    """Over all the images together, as bytes."""

    @torch.no_grad()
    def error(i):
        some = images[i : i + batch]
        back = pictures(vae.decode(vae.encode(tensor(some)).latent_dist.mode()).sample)
        return ((np.stack(back).astype(float) - np.stack(some)) ** 2).mean(axis=(1, 2, 3))

    return 10 * np.log10(255**2 / np.concatenate(list(pool.map(error, range(0, len(images), batch)))).mean())


def loss(vae, x, fast, freeze_encoder):
    with torch.autocast("cpu", torch.bfloat16, enabled=fast):
        with torch.set_grad_enabled(not freeze_encoder):
            mean = vae.encode(x).latent_dist.mean.float()
        y = vae.decode(mean + NOISE * torch.randn_like(mean)).sample.float()
    d = y - x
    edges = (d[..., 1:] - d[..., :-1]).abs().mean() + (d[:, :, 1:] - d[:, :, :-1]).abs().mean()
    return d.abs().mean() + (d * d).mean() + 0.5 * edges + 1e-4 * (mean * mean).mean()


def train(out, hours, freeze_encoder=False):
    folder, checkpoint = out / "vae", out / "vae.pt"
    for start in (folder, common.MODEL / "vae"):
        if (start / "config.json").exists():
            vae = AutoencoderKL.from_pretrained(start, torch_dtype=torch.float32)
            common.log("vae: starting from", start)
            break
    else:
        vae = AutoencoderKL(**CONFIG)
    named = list(vae.named_parameters())
    if not freeze_encoder:
        vae.register_to_config(shift_factor=None)  # to be measured anew before the next stage
        (out / "latents.pt").unlink(missing_ok=True)  # train_flux makes them anew
    if freeze_encoder:  # the latents, and so the transformer trained on them, stay valid
        vae.encoder.requires_grad_(False)
        named = [(n, p) for n, p in named if p.requires_grad]
    inner = [p for n, p in named if p.ndim > 1 and "conv_in" not in n and "conv_out" not in n]
    outer = [p for n, p in named if not any(p is q for q in inner)]
    pool = common.workers()
    optimizer = common.Optimizer(pool, inner, outer, RATE, RATE)
    average = common.Average(vae.parameters())
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        if not freeze_encoder and saved.get("optimizer"):
            optimizer.load_state_dict(saved["optimizer"])

    # Every subject on two backgrounds stands for all ten: crops see each colour often enough.
    colors = list(data.BACKGROUNDS.values())
    images = [data.compose(rgba, c) for _, rgba in data.subjects() for c in random.sample(colors, 2)]
    shown = images[:: len(images) // 16][:16]

    def crop():
        image = random.choice(images)
        i, j = (random.randint(0, data.SIZE - CROP) for _ in range(2))
        image = image[i : i + CROP, j : j + CROP]
        return image[:, ::-1] if random.random() < 0.5 else image

    def keep():
        with average:
            back = pictures(vae.decode(vae.encode(tensor(shown)).latent_dist.mode()).sample.detach())
            data.grid(shown[:8] + back[:8] + shown[8:] + back[8:], 8).save(out / "vae.png")
            quality = psnr(vae, images[::5], pool)
            vae.save_pretrained(folder)
        common.save(checkpoint, {"optimizer": None if freeze_encoder else optimizer.state_dict()})
        common.log(f"vae: step {pace.steps}, {pace.elapsed():.0f} s, PSNR {quality:.2f} dB")

    fast = common.bf16_is_fast()
    pace, next_note = common.Pace(hours), 60
    while pace.running():
        x = tensor([crop() for _ in range(BATCH)])
        jobs = [x[i] for i in common.shares(BATCH)]
        list(pool.map(lambda x: (loss(vae, x, fast, freeze_encoder) * len(x) / BATCH).backward(), jobs))
        optimizer.step(pace.rate())
        average.update()
        if pace.elapsed() > next_note:
            keep()
            next_note = pace.elapsed() + 120
    keep()
