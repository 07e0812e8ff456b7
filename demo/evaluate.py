"""How good the demo model is, in figures, judged by its own pictures.

Pictures come from the `imagined` binary (--diffusers: from FluxPipeline on the same folder). A picture is right
where the nearest picture of the training set, of all subjects on all backgrounds, is the one that was asked for.
"""

import argparse
import random
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxPipeline
from PIL import Image

import common
import data
from train_vae import psnr, tensor

ROWS, COLUMNS = 4, 6


def prompts(count, subjects, seed, way):
    chance = random.Random(seed)
    out = []
    for _ in range(count):
        subject, background = chance.randrange(len(subjects)), chance.randrange(len(data.BACKGROUNDS))
        text = data.caption(subjects[subject][0], list(data.BACKGROUNDS)[background], 0)
        out.append((subject, background, data.typed(text, way), chance.randrange(2**32)))
    return out


def by_binary(binary, text, seed):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.png")
        command = [binary, "generate", text, "-o", path, "--model", common.MODEL, "--seed", str(seed)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        return np.asarray(Image.open(path).convert("RGB"))


def by_diffusers(pipe, defaults, texts, seeds):
    how = {"width": defaults["width"], "height": defaults["height"], "num_inference_steps": defaults["steps"]}
    how |= {"max_sequence_length": defaults["max_sequence_length"], "guidance_scale": defaults["guidance"]}
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return [np.asarray(image) for image in pipe(texts, generator=generators, **how).images]


def nearest(made, subjects, variants):
    """For each picture, subject and background of the set's nearest, by the distance of all pixels."""
    made = tensor(made).flatten(1)
    best = torch.full((len(made),), torch.inf)
    found = torch.zeros(len(made), 2, dtype=torch.long)
    for number in range(variants):
        for background, color in enumerate(data.BACKGROUNDS.values()):
            known = [data.compose(rgba, color, **data.variant(number, i)) for i, (_, rgba) in enumerate(subjects)]
            distance, subject = torch.cdist(made, tensor(known).flatten(1)).min(1)
            closer = distance < best
            best[closer] = distance[closer]
            found[closer, 0], found[closer, 1] = subject[closer], background
    return found.tolist()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=common.HERE.parent / "build" / "imagined")
    parser.add_argument("--diffusers", action="store_true")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--variants", type=int, default=1, help="as trained with")
    parser.add_argument("--seed", type=int, default=2026, help="of the prompts and of their noise")
    parser.add_argument("--typed", type=int, default=0, choices=range(data.WAYS), help="data.typed's way: 3 is Like this.")
    parser.add_argument("--grid", type=Path, help=f"write the first {ROWS * COLUMNS} pictures as one")
    options = parser.parse_args()

    subjects = data.subjects()
    if options.diffusers:
        import json

        defaults = json.loads((common.MODEL / "imagined.json").read_text())
        pipe = FluxPipeline.from_pretrained(common.MODEL, torch_dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)

    def pictures(texts, seeds, batch=20):
        if not options.diffusers:
            return [by_binary(options.binary, *one) for one in zip(texts, seeds)]
        starts = range(0, len(texts), batch)
        return sum((by_diffusers(pipe, defaults, texts[i : i + batch], seeds[i : i + batch]) for i in starts), [])

    asked = prompts(options.count, subjects, options.seed, options.typed)
    texts = [text for _, _, text, _ in asked]
    made = pictures(texts, [seed for _, _, _, seed in asked])
    if options.grid:
        data.grid(made[: ROWS * COLUMNS], COLUMNS).quantize(128).save(options.grid, optimize=True)
        print("grid:", "; ".join(texts[: ROWS * COLUMNS]))
    found = nearest(made, subjects, options.variants)
    for k, what in enumerate(("subject", "background")):
        right = sum(a[k] == b[k] for a, b in zip(found, asked))
        print(f"{what}: right in {right} of {len(made)} pictures, {100 * right / len(made):.1f} %")
    wrong = [f"{text} -> {subjects[f[0]][0]}" for f, (s, _, text, _) in zip(found, asked) if f[0] != s]
    print("wrong:", "; ".join(wrong) or "none")

    twice = zip(pictures(texts[:10], [1] * 10), pictures(texts[:10], [2] * 10))
    change = np.mean([np.abs(a.astype(float) - b).mean() for a, b in twice])
    print(f"two seeds: pictures differ by {change:.1f} of 255 in the mean")

    vae = AutoencoderKL.from_pretrained(common.MODEL / "vae", torch_dtype=torch.float32)
    every = [data.compose(rgba, color) for _, rgba in subjects for color in data.BACKGROUNDS.values()]
    print(f"autoencoder: PSNR {psnr(vae, every, common.workers()):.2f} dB over the set of {len(every)}")
