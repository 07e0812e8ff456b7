"""The optimization manager: what the statistics say of a device, and an f32 model at the precision "auto" on one that is better in 16 bits."""
import io

import numpy as np
from PIL import Image

import models
from conftest import until
from pictures import psnr
from vulkan import ENVIRONMENT

SMALL = {"seed": 7, "num_inference_steps": 2, "width": 64, "height": 64}


def run(server, **fields):
    name = server.submit("a fox on a blue background", **SMALL, **fields)
    task = until(lambda: (t := server.task(name))["status"] in ("completed", "failed") and t, seconds=300)
    assert task["status"] == "completed", task
    s = server.get("/api/system/stats").json()
    picture = np.asarray(Image.open(io.BytesIO(server.image(task["images"][0]["id"]))).convert("RGB"), float)
    return picture, s["optimizations"], s["models"]["models"]


def add_wide(server):
    """The demo model with every weight stored in f32."""
    wide = server.folder / "models/wide"
    wide.parent.mkdir(exist_ok=True)
    models.copy(wide)
    for path in models.weight_files(wide):
        models.convert(path, "F32")
    until(lambda: "wide" in server.get("/api/system/models").text)


def test_the_cpu_computes_in_f32_and_says_why(make_server):
    server = make_server(real_engine=True)
    _, optimizations, _ = run(server)
    assert optimizations["optimal_dtype"] == "torch.float32" and optimizations["amp_enabled"] is False
    assert optimizations["flash_attention_available"] is False
    assert optimizations["attention"] == "own kernel" and optimizations["vae"] == "whole" and optimizations["tf32"] == "unavailable"
    assert "GFLOPS" in optimizations["reasons"]["optimal_dtype"]
    assert all(optimizations["reasons"][name] for name in ("optimal_dtype", "attention", "vae", "tf32"))


def test_an_f32_model_is_cast_to_the_devices_optimal_dtype(make_server):
    server = make_server(real_engine=True, **ENVIRONMENT)
    add_wide(server)
    exact, before, rows = run(server, model="wide", precision="f32")
    assert before["amp_enabled"] is False
    full = next(m for m in rows if m["id"] == "wide" and m["precision"] == "f32")["vram_bytes"]
    cast, after, rows = run(server, model="wide")
    bytes_now = next(m for m in rows if m["id"] == "wide" and m["precision"] == "auto")["vram_bytes"]
    assert after["optimal_dtype"] in ("torch.bfloat16", "torch.float16", "torch.float32")
    assert after["amp_enabled"] == (after["optimal_dtype"] != "torch.float32")
    assert after["reasons"]["optimal_dtype"] != before["reasons"]["optimal_dtype"]  # measured by now
    assert psnr(exact, cast) >= 30
    if after["amp_enabled"]:
        assert bytes_now < 0.75 * full  # convolutions, biases and norms stay f32
        assert not np.array_equal(exact, cast)
    else:
        assert bytes_now == full
