"""Pictures of the demo model by diffusers' own FluxPipeline, in float32 on the CPU: what tests/http/test_pictures.py holds `imagined` to.

Run with the reference environment (tests/golden/requirements.txt):  python tests/golden/make_pictures.py
"""
import json
import pathlib

import torch
from diffusers import FluxPipeline

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/golden/data/pictures"

# Prompt, seed, and what differs from the defaults: sizes, steps, sequence lengths, a negative prompt, seeds past 32 bits.
CASES = [
    {"prompt": "a raccoon on a purple background", "seed": 1},
    {"prompt": "a fox on a blue background", "seed": 42},
    {"prompt": "red heart, white background", "seed": 7},
    {"prompt": "cactus", "seed": 2**32 + 5},
    {"prompt": "a pizza on a green background", "seed": 123456789, "steps": 4},
    {"prompt": "a whale on a yellow background", "seed": 2**63 + 11, "steps": 20},
    {"prompt": "an owl on a pink background", "seed": 5, "width": 160, "height": 96},
    {"prompt": "a tractor on an orange background", "seed": 6, "max_sequence_length": 16},
    {"prompt": "a strawberry on a gray background", "seed": 8, "negative_prompt": "a black background", "true_cfg_scale": 2.0},
    {"prompt": "Ein Käfer 🐞 auf schwarzem Grund, " + "sehr " * 30 + "schön", "seed": 9},
]


def main():
    defaults = json.loads((ROOT / "demo/model/imagined.json").read_text())
    pipe = FluxPipeline.from_pretrained(ROOT / "demo/model", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    OUT.mkdir(parents=True, exist_ok=True)
    cases = []
    for i, case in enumerate(CASES):
        full = {
            "width": defaults["width"], "height": defaults["height"], "steps": defaults["steps"], "guidance_scale": defaults["guidance"],
            "max_sequence_length": defaults["max_sequence_length"], "negative_prompt": None, "true_cfg_scale": 1.0, **case,
        }
        # manual_seed takes signed 64-bit numbers: the same bits.
        seed = full["seed"] if full["seed"] < 2**63 else full["seed"] - 2**64
        image = pipe(
            prompt=full["prompt"], negative_prompt=full["negative_prompt"], true_cfg_scale=full["true_cfg_scale"], width=full["width"],
            height=full["height"], num_inference_steps=full["steps"], guidance_scale=full["guidance_scale"],
            max_sequence_length=full["max_sequence_length"], generator=torch.Generator("cpu").manual_seed(seed),
        ).images[0]
        full["picture"] = f"{i:02d}.png"
        image.save(OUT / full["picture"])
        cases.append(full)
        print(full["picture"], full["prompt"][:60])
    (OUT / "cases.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
