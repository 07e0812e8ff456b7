"""The demo model's pictures against diffusers' own (tests/golden/make_pictures.py), and HTTP against the command: the same bytes."""
import base64
import io
import json
import pathlib
import subprocess

import pytest
from PIL import Image
from pictures import psnr

ROOT = pathlib.Path(__file__).resolve().parents[2]
PICTURES = ROOT / "tests/golden/data/pictures"
CASES = json.loads((PICTURES / "cases.json").read_text())
BINARY = ROOT / "build/imagined"


def generate(case, path, *more):
    command = [BINARY, "generate", case["prompt"], "-o", path, "--seed", str(case["seed"]), "--steps", str(case["steps"]),
               "--width", str(case["width"]), "--height", str(case["height"]), "--guidance", str(case["guidance_scale"]),
               "--max-sequence-length", str(case["max_sequence_length"]), *more]
    if case["negative_prompt"] is not None:
        command += ["--negative-prompt", case["negative_prompt"], "--true-cfg", str(case["true_cfg_scale"])]
    subprocess.run([str(c) for c in command], check=True, capture_output=True, timeout=120)
    return path.read_bytes()


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["picture"])
def test_the_picture_is_that_of_diffusers(case, tmp_path):
    png = generate(case, tmp_path / "a.png", "--precision", "f32")
    ours = Image.open(io.BytesIO(png)).convert("RGB")
    theirs = Image.open(PICTURES / case["picture"]).convert("RGB")
    assert ours.size == theirs.size
    assert psnr(ours, theirs) >= 40


@pytest.mark.parametrize("case", [CASES[0], CASES[5], CASES[8]], ids=lambda c: c["picture"])
def test_http_gives_the_bytes_of_the_command(case, tmp_path, server):
    png = generate(case, tmp_path / "a.png", "--precision", "f32")
    body = {
        "prompt": case["prompt"], "seed": str(case["seed"]), "num_inference_steps": case["steps"], "size": f"{case['width']}x{case['height']}",
        "guidance_scale": case["guidance_scale"], "max_sequence_length": case["max_sequence_length"], "precision": "f32",
        "response_format": "b64_json",
    }
    if case["negative_prompt"] is not None:
        body |= {"negative_prompt": case["negative_prompt"], "true_cfg_scale": case["true_cfg_scale"]}
    answer = server.post("/v1/images/generations", json=body)
    assert answer.status_code == 200, answer.text
    assert base64.b64decode(answer.json()["data"][0]["b64_json"]) == png


@pytest.mark.parametrize("precision", ["auto", "bf16", "f16"])
def test_lower_precisions_stay_close(precision, tmp_path):
    case = CASES[0]
    ours = Image.open(io.BytesIO(generate(case, tmp_path / "a.png", "--precision", precision))).convert("RGB")
    assert psnr(ours, Image.open(PICTURES / case["picture"]).convert("RGB")) >= 25
