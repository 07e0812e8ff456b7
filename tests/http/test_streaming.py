"""A transformer larger than the device's limit streams its blocks: the same picture from "all of it fits" down to "two blocks fit", never more of the
device than the limit, counted where ggml allocates; and what each limit costs is printed."""
import io
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

import models
from conftest import until
from pictures import psnr
from vulkan import DeviceBytes

MIB = 1 << 20
DOUBLES, SINGLES, STEPS = 3, 6, 2


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """The demo model with more blocks, of random weights: its transformer is most of it."""
    folder = models.copy(tmp_path_factory.mktemp("models") / "deep")
    models.deepen(folder, DOUBLES, SINGLES)
    return folder


class Run:
    """One picture of a fresh server under a limit in MiB (0: none)."""

    def __init__(self, make_server, deep, folder, limit):
        counter = DeviceBytes(folder)
        counter.file.unlink(missing_ok=True)
        server = make_server(real_engine=True, IMAGINED_VRAM_LIMIT_MB=limit, **counter.environment)
        shutil.copytree(deep, server.folder / "models" / "deep", copy_function=os.link)
        until(lambda: any(m["id"] == "deep" for m in server.get("/api/system/models").json()["models"]))
        self.task = server.finish(server.submit("a fox on a blue background", model="deep", seed=7, num_inference_steps=STEPS, width=64, height=64), 300)
        self.plan = " · ".join(self.task["plan"])
        self.peak = counter.peak() if counter.file.exists() else 0
        self.pixels = None
        if self.task["status"] == "completed":
            png = server.image(self.task["images"][0]["id"])
            self.pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.float64)
        assert server.engine_pid() is not None
        server.stop()


def two_blocks(deep):
    """Bytes of what every block needs and of the two largest, on the device: vectors are f32 there."""
    block = rest = 0
    for name, (_, shape, data) in models.read(deep / "transformer/diffusion_pytorch_model.safetensors").items():
        size = len(data) * (2 if len(shape) < 2 else 1)
        if name.startswith("transformer_blocks.0."):
            block += size
        elif "_blocks." not in name:
            rest += size
    return rest + 2 * block


def test_the_picture_is_the_same_under_every_limit(make_server, deep, tmp_path, capsys):
    whole = Run(make_server, deep, tmp_path, 0)
    assert whole.task["status"] == "completed", whole.task
    assert np.std(whole.pixels) > 1  # not a blank, which would be equal to anything

    runs, most = {}, -(-whole.peak // MIB)
    low, high = 0, most  # no picture with the one, one with the other
    limits = [most, most - 1, most * 3 // 4, most * 5 // 8]
    while limits or high - low > 1:  # halving leads to the least limit, by way of others
        limit = limits.pop(0) if limits else (low + high) // 2
        run = runs[limit] = Run(make_server, deep, tmp_path, limit)
        assert run.peak <= limit * MIB
        if run.pixels is None:
            assert run.task["status"] == "failed" and "MiB" in run.task["error"]["detail"], run.task
            low = max(low, limit)
        else:
            assert psnr(run.pixels, whole.pixels) >= 50
            high = min(high, limit)
    rows = [("none", whole)] + [(f"{limit} MiB", runs[limit]) for limit in sorted(runs, reverse=True)]
    with capsys.disabled():
        print("\n| limit | most taken | seconds a step | PSNR | plan |\n|---|---|---|---|---|")
        for limit, run in rows:
            if run.pixels is None:
                print(f"| {limit} | {run.peak / MIB:.1f} MiB | – | – | {run.task['error']['detail']} |")
                continue
            print(f"| {limit} | {run.peak / MIB:.1f} MiB | {run.task['metrics']['denoise_seconds'] / STEPS:.2f} | {psnr(run.pixels, whole.pixels):.0f} dB "
                  f"| {run.plan or 'as it is'} |")

    assert runs[most].pixels is not None
    streaming = [run for run in runs.values() if "stream weights" in run.plan and run.pixels is not None]
    assert len(streaming) >= 3
    kept = re.search(r"keeps (\d+) of (\d+) MiB", runs[high].plan)
    assert kept and int(kept[1]) <= two_blocks(deep) / MIB + 2 < int(kept[2]), runs[high].plan  # it came down to two blocks
