"""The same graphs on another device: Vulkan (Mesa's software rasteriser stands in for a GPU) makes the CPU's picture."""
import os
import pathlib
import subprocess

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]


def picture(path, device, **environment):
    subprocess.run([ROOT / "build/imagined", "generate", "a raccoon on a purple background", "--seed", "1", "--steps", "2", "--precision", "f32",
                    "--device", device, "-o", path], check=True, timeout=600, capture_output=True, env={**os.environ, **environment})
    return np.asarray(Image.open(path).convert("RGB"), np.float64)


def test_vulkan_makes_the_picture_of_the_cpu(tmp_path):
    cpu = picture(tmp_path / "cpu.png", "cpu")
    vulkan = picture(tmp_path / "vulkan.png", "vulkan", VK_DRIVER_FILES=str(ROOT / ".deps/lvp_icd.json"), GGML_VK_VISIBLE_DEVICES="0",
                     GGML_NO_BACKTRACE="1")
    error = np.mean((cpu - vulkan) ** 2)
    assert error == 0 or 10 * np.log10(255**2 / error) >= 40
