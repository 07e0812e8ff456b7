#!/usr/bin/env python3
"""Numbers torch.randn draws on the CPU generator -> data/randn.safetensors.

Every combination has a 64-bit FNV-1a hash of its bytes; those of few numbers, and two long ones, are stored whole as well, so that a
difference can be seen. Run on a processor with AVX2 or better (see src/sampling/torch_random.h)."""
import pathlib

import numpy as np
import torch
from safetensors.numpy import save_file

SEEDS = [0, 1, 42, 2**31, 2**32 - 1, 2**32, 2**32 + 5, 2**63, 2**64 - 1]
COUNTS = [1, 5, 15, 16, 17, 31, 100, 4096, 65536]


def fnv1a(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return h


def main():
    assert torch.backends.cpu.get_cpu_capability() != "DEFAULT"
    arrays = {"seeds": np.array(SEEDS, np.uint64).view(np.int64), "counts": np.array(COUNTS, np.int64)}
    hashes = np.zeros((len(SEEDS), len(COUNTS)), np.uint64)
    for i, seed in enumerate(SEEDS):
        for j, count in enumerate(COUNTS):
            generator = torch.Generator("cpu").manual_seed(seed if seed < 2**63 else seed - 2**64)
            numbers = torch.randn(count, generator=generator, dtype=torch.float32).numpy()
            hashes[i, j] = fnv1a(numbers.tobytes())
            if count <= 100 or (count == 4096 and seed in (42, 2**64 - 1)):
                arrays[f"seed{i}.count{j}"] = numbers
    arrays["hashes"] = hashes.view(np.int64)
    save_file(arrays, pathlib.Path(__file__).parent / "data" / "randn.safetensors")


if __name__ == "__main__":
    main()
