"""How good the demo model is, in figures, judged by its own pictures.

Pictures come from the `imagined` binary (--diffusers: from FluxPipeline on the same folder). A picture is right
where the nearest picture of the training set, of all looks of all subjects on all backgrounds, is one asked for.

Of the first SEEDS_PROMPTS prompts, SEEDS pictures each tell how much seeds differ: whether more than one look is among
them, and how far apart they are. Looks that can hardly be told apart, as a heart and the heart mirrored, count as one.
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
SEEDS_PROMPTS, SEEDS = 60, 4
ALIKE = 8  # of 255, the mean over all bytes: below, two looks of a subject count as one
PARTS = ("pictures", "seeds", "autoencoder")


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


def looks(subjects, color):
    """For each look, all subjects' pictures on one background."""
    for number in range(data.LOOKS):
        yield [data.compose(rgba, color, **data.look(number, name)) for name, rgba in subjects]


def nearest(made, subjects):
    """For each picture, subject, background and look of the set's nearest, by the distance of all pixels."""
    made = tensor(made).flatten(1)
    best = torch.full((len(made),), torch.inf)
    found = torch.zeros(len(made), 3, dtype=torch.long)
    for background, color in enumerate(data.BACKGROUNDS.values()):
        for number, known in enumerate(looks(subjects, color)):
            distance, subject = torch.cdist(made, tensor(known).flatten(1)).min(1)
            closer = distance < best
            best[closer] = distance[closer]
            found[closer, 0], found[closer, 1], found[closer, 2] = subject[closer], background, number
    return found.tolist()


def apart(a, b):
    return np.abs(a.astype(float) - b).mean()


def distinct(pictures):
    """How many there are, counting those that can hardly be told apart as one."""
    kept = []
    for picture in pictures:
        if all(apart(picture, known) >= ALIKE for known in kept):
            kept.append(picture)
    return len(kept)


def seeds_differ(groups, asked, found, subjects):
    """Of groups of pictures of one prompt each: the prompts for which the set has more than one look, those of them for
    which the group has, too, and the mean distance of two pictures of a group."""
    possible = shown = 0
    for (subject, background, _, _), near in zip(asked, found):
        color, (name, rgba) = list(data.BACKGROUNDS.values())[background], subjects[subject]
        known = [data.compose(rgba, color, **data.look(number, name)) for number in range(data.LOOKS)]
        right = {number for s, b, number in near if (s, b) == (subject, background)}  # a wrong picture is no other look
        possible += distinct(known) > 1
        shown += distinct([known[number] for number in right]) > 1
    pairs = [apart(group[i], group[j]) for group in groups for i in range(len(group)) for j in range(i)]
    return possible, shown, np.mean(pairs)


def show(pictures, columns, path):
    data.grid(pictures, columns).quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=common.HERE.parent / "build" / "imagined")
    parser.add_argument("--diffusers", action="store_true")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, help="what to measure")
    parser.add_argument("--seed", type=int, default=2026, help="of the prompts and of their noise")
    parser.add_argument("--typed", type=int, default=0, choices=range(data.WAYS), help="data.typed's way")
    parser.add_argument("--grid", type=Path, help=f"write the first {ROWS * COLUMNS} pictures as one")
    parser.add_argument("--seeds-grid", type=Path, help=f"write {SEEDS} pictures each of {COLUMNS} prompts")
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
    if "pictures" in options.parts:
        texts = [text for _, _, text, _ in asked]
        made = pictures(texts, [seed for _, _, _, seed in asked])
        if options.grid:
            show(made[: ROWS * COLUMNS], COLUMNS, options.grid)
            print("grid:", "; ".join(texts[: ROWS * COLUMNS]))
        found = nearest(made, subjects)
        for k, what in enumerate(("subject", "background")):
            right = sum(a[k] == b[k] for a, b in zip(found, asked))
            print(f"{what}: right in {right} of {len(made)} pictures, {100 * right / len(made):.1f} %")
        wrong = [f"{text} -> {subjects[f[0]][0]}" for f, (s, _, text, _) in zip(found, asked) if f[0] != s]
        print("wrong:", "; ".join(wrong) or "none", flush=True)

    if "seeds" in options.parts:
        asked, chance = asked[:SEEDS_PROMPTS], random.Random(options.seed + 1)
        texts = [text for _, _, text, _ in asked for _ in range(SEEDS)]
        made = pictures(texts, [chance.randrange(2**32) for _ in texts])
        found = nearest(made, subjects)
        starts = range(0, len(made), SEEDS)
        groups = [made[i : i + SEEDS] for i in starts]
        possible, shown, change = seeds_differ(groups, asked, [found[i : i + SEEDS] for i in starts], subjects)
        print(f"seeds: {possible} of {len(asked)} prompts have looks that can be told apart;", end=" ")
        print(f"{SEEDS} seeds show more than one for {shown} of them")
        print(f"seeds: two pictures of one prompt differ by {change:.1f} of 255 in the mean", flush=True)
        if options.seeds_grid:
            columns = groups[:COLUMNS]
            show([column[row] for row in range(SEEDS) for column in columns], len(columns), options.seeds_grid)
            print("seeds grid:", "; ".join(text for _, _, text, _ in asked[:COLUMNS]))

    if "autoencoder" in options.parts:
        vae = AutoencoderKL.from_pretrained(common.MODEL / "vae", torch_dtype=torch.float32)
        every = [picture for color in data.BACKGROUNDS.values() for look in looks(subjects, color) for picture in look]
        print(f"autoencoder: PSNR {psnr(vae, every, common.workers()):.2f} dB over the set of {len(every)}")
