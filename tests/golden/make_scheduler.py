#!/usr/bin/env python3
"""Schedules of diffusers' FlowMatchEulerDiscreteScheduler, driven as FluxPipeline drives it -> data/scheduler.safetensors.

For each configuration: its JSON text as bytes under NAME.config, and for each number of steps and of image tokens the sigmas
(NAME.sSTEPS.tTOKENS.sigmas) and timesteps. `step.*` is one Euler step."""
import json
import pathlib

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift, retrieve_timesteps
from safetensors.numpy import save_file

STEPS = [1, 2, 4, 8, 20, 28, 50, 1000]
TOKENS = [1, 64, 256, 1024, 1530, 4096, 16384]
CONFIGS = {
    "schnell": dict(shift=1.0, use_dynamic_shifting=False, base_shift=0.5, max_shift=1.15, base_image_seq_len=256,
                    max_image_seq_len=4096, num_train_timesteps=1000),
    "dev": dict(shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096),
    "linear": dict(use_dynamic_shifting=True, time_shift_type="linear", base_shift=0.7, max_shift=2.5, base_image_seq_len=100,
                   max_image_seq_len=900),
    "static": dict(shift=3.0),
    "terminal": dict(use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, shift_terminal=0.1),
    "short": dict(shift=1.7, num_train_timesteps=777, shift_terminal=0.02),
}


def schedule(config, steps, tokens):
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(config)
    c = scheduler.config
    mu = calculate_shift(tokens, c.base_image_seq_len, c.max_image_seq_len, c.base_shift, c.max_shift)
    timesteps, _ = retrieve_timesteps(scheduler, steps, "cpu", sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
    return scheduler.sigmas.numpy(), timesteps.numpy()


def main():
    arrays = {"steps": np.array(STEPS, np.int64), "tokens": np.array(TOKENS, np.int64)}
    for name, config in CONFIGS.items():
        arrays[f"{name}.config"] = np.frombuffer(json.dumps(config).encode(), np.uint8)
        dynamic = config.get("use_dynamic_shifting", False)
        for steps in STEPS:
            if steps == 1 and "shift_terminal" in config:
                continue  # the reference divides 0 by 0
            for tokens in TOKENS if dynamic and steps < 100 else TOKENS[3:5] if dynamic else TOKENS[:1]:
                sigmas, timesteps = schedule(config, steps, tokens)
                arrays[f"{name}.s{steps}.t{tokens}.sigmas"] = sigmas
                arrays[f"{name}.s{steps}.t{tokens}.timesteps"] = timesteps
    generator = torch.Generator().manual_seed(3)
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(CONFIGS["static"])
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.25, 4))
    sample = torch.randn(1, 256, generator=generator)
    arrays["step.sample"] = sample.numpy()
    for i, t in enumerate(scheduler.timesteps):
        velocity = torch.randn(1, 256, generator=generator)
        sample = scheduler.step(velocity, t, sample, return_dict=False)[0]
        arrays[f"step.velocity.{i}"] = velocity.numpy()
        arrays[f"step.result.{i}"] = sample.numpy()
    arrays["step.sigmas"] = scheduler.sigmas.numpy()
    save_file(arrays, pathlib.Path(__file__).parent / "data" / "scheduler.safetensors")


if __name__ == "__main__":
    main()
