"""Trains the demo model: the autoencoder, then the transformer with its text encoders.

Each stage goes on from its checkpoint below --out and, failing that, from the weights in demo/model, and,
failing those, from nothing. It can be stopped at any time; it stands still while .deps/measure exists.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch

import common

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=common.HERE.parent / ".deps" / "train", help="checkpoints, grids")
    parser.add_argument("--hours", type=float, default=8, help="wall-clock time of the whole run")
    parser.add_argument("--stage", choices=("all", "vae", "decoder", "flux"), default="all", help="decoder: of the vae")
    parser.add_argument("--rate", type=float, default=1.0, help="of the learning rate; below 1 to go on from a trained model")
    parser.add_argument("--deaf", action="store_true", help="the weights to go on from know one look only")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    np.random.seed(options.seed)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    share = 0.25 if options.stage == "all" else 1
    if options.stage in ("all", "vae", "decoder"):
        import train_vae

        train_vae.train(options.out, options.hours * share, freeze_encoder=options.stage == "decoder")
    if options.stage in ("all", "flux"):
        import train_flux

        train_flux.train(options.out, options.hours * (1 - share if share < 1 else 1), options.rate, options.deaf)
