"""Whole pictures, imagined against diffusers on the same folder and the same cores, in turns: medians and ratios.

Both are warm: the model is loaded and one picture was made. imagined's time is that of the whole HTTP request, PNG and disk included.

Usage: python bench/against_diffusers.py [FOLDER] [ROUNDS]     (needs tests/golden/requirements.txt and `make build`)
"""
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import torch
from diffusers import FluxPipeline

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROMPT = "a raccoon on a purple background"


class Ours:
    def __init__(self, folder, state):
        self.process = subprocess.Popen([ROOT / "build/imagined", "serve", "--listen", "127.0.0.1:0", "--state", state, "--models", folder.parent,
                                         "--log-level", "error"], stdout=subprocess.PIPE, text=True)
        self.url = re.search(r"http://\S+", self.process.stdout.readline())[0]
        self.model = "demo" if folder == ROOT / "demo/model" else folder.name

    def picture(self, seed):
        body = json.dumps({"prompt": PROMPT, "seed": seed, "model": self.model, "response_format": "b64_json"}).encode()
        request = urllib.request.Request(self.url + "/v1/images/generations", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=600).read()


class Theirs:
    def __init__(self, folder, dtype):
        self.defaults = json.loads((folder / "imagined.json").read_text())
        self.pipe = FluxPipeline.from_pretrained(folder, torch_dtype=dtype)
        self.pipe.set_progress_bar_config(disable=True)

    def picture(self, seed):
        d = self.defaults
        self.pipe(prompt=PROMPT, width=d["width"], height=d["height"], num_inference_steps=d["steps"], guidance_scale=d["guidance"],
                  max_sequence_length=d["max_sequence_length"], generator=torch.Generator("cpu").manual_seed(seed))


def main():
    folder = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "demo/model"
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as state:
        ours = Ours(folder, state)
        peers = {"imagined": ours, "diffusers f32": Theirs(folder, torch.float32), "diffusers bf16": Theirs(folder, torch.bfloat16)}
        seconds = {name: [] for name in peers}
        for seed in range(rounds + 1):
            for name, peer in peers.items():
                start = time.perf_counter()
                peer.picture(seed)
                if seed > 0:
                    seconds[name].append(time.perf_counter() - start)
        ours.process.terminate()
        ours.process.wait()
    base = statistics.median(seconds["imagined"])
    for name, values in seconds.items():
        print(f"{name:15} {statistics.median(values):7.3f} s a picture (of {rounds}: {min(values):.3f} to {max(values):.3f}), "
              f"{statistics.median(values) / base:.2f} times imagined's")


if __name__ == "__main__":
    main()
