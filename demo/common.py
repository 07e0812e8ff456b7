"""What both training stages share: the pace, the optimiser, the averaged weights."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
MODEL = HERE / "model"
MEASURE = HERE.parent / ".deps" / "measure"  # somebody times something on this machine: stand still


class Pace:
    """How far a run is: wall-clock time in [0, 1] of `hours`, and the learning rate's factor there."""

    def __init__(self, hours, warmup=200, decay=0.5):
        self.start, self.seconds = time.time(), hours * 3600
        self.warmup, self.decay, self.steps = warmup, decay, 0
        self.stopped = False
        for number in (signal.SIGINT, signal.SIGTERM):  # end as if the time were over, with a checkpoint
            signal.signal(number, self.stop)

    def stop(self, *_):
        self.stopped = True

    def elapsed(self):
        return time.time() - self.start

    def fraction(self):
        return self.elapsed() / self.seconds

    def rate(self):
        """Rises over the first steps, falls over the last part: weights only settle when it is low."""
        self.steps += 1
        falling = min(1.0, (1 - self.fraction()) / self.decay)
        return max(0.01, min(1.0, self.steps / self.warmup, falling))

    def running(self):
        while MEASURE.exists() and not self.stopped:
            time.sleep(1)
        return not self.stopped and self.fraction() < 1


def workers():
    """One thread a core, each computing its share of a batch alone. Splitting every small operation over the cores
    instead would wait at every one of them for the core that somebody else is using."""
    return ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,))


def shares(count):
    """The slices of a batch, one a worker."""
    parts = min(count, os.cpu_count())
    edges = [count * i // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in zip(edges, edges[1:])]


def orthogonal(update):
    """Newton-Schulz: the nearest orthogonal matrix to each of a stack, roughly (the constants are Muon's)."""
    x = update.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.mT if tall else x).float()


class Optimizer:
    """Muon for the matrices, Adam for the rest. Matrices of one shape are handled as one stack: there are many
    and they are small. (torch.optim.Muon takes them one by one and has no convolutions.)"""

    STACK = 4  # at most: one worker's job

    def __init__(self, pool, matrices, others, matrix_rate, other_rate):
        self.pool, shapes = pool, {}
        for p in matrices:
            shapes.setdefault((p.shape[0], p[0].numel()), []).append(p)
        self.stacks = [ps[i : i + self.STACK] for ps in shapes.values() for i in range(0, len(ps), self.STACK)]
        self.stacks.sort(key=lambda ps: -sum(p.numel() for p in ps))
        self.momentum = {p: torch.zeros_like(p) for p in matrices}
        self.matrix_rate, self.other_rate = matrix_rate, other_rate
        self.adam = torch.optim.AdamW(others, lr=other_rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.parameters = list(matrices) + list(others)

    @torch.no_grad()
    def turn(self, ps, rate):
        rows, columns = ps[0].shape[0], ps[0][0].numel()
        updates = []
        for p in ps:
            momentum = self.momentum[p].lerp_(p.grad, 0.05)
            updates.append(p.grad.lerp(momentum, 0.95).view(rows, columns))
        rate *= 0.2 * max(rows, columns) ** 0.5  # as large as Adam's steps
        for p, update in zip(ps, orthogonal(torch.stack(updates))):
            p.add_(update.view(p.shape), alpha=-rate)

    def step(self, factor):
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        list(self.pool.map(lambda ps: self.turn(ps, factor * self.matrix_rate), self.stacks))
        for group in self.adam.param_groups:
            group["lr"] = factor * self.other_rate
        self.adam.step()
        for p in self.parameters:
            p.grad = None

    def state_dict(self):
        return {"momentum": list(self.momentum.values()), "adam": self.adam.state_dict()}

    def load_state_dict(self, state):
        for mine, saved in zip(self.momentum.values(), state["momentum"], strict=True):
            mine.copy_(saved)
        self.adam.load_state_dict(state["adam"])


class Average:
    """An exponential mean of the weights: what is shown, exported and judged."""

    def __init__(self, parameters, horizon=300):
        self.parameters, self.horizon, self.steps = list(parameters), horizon, 0
        self.mean = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self):
        self.steps += 1
        keep = min(1 - 1 / self.horizon, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.mean, [p.detach() for p in self.parameters], 1 - keep)

    @torch.no_grad()
    def __enter__(self):
        """Inside `with average:` the model has the mean weights."""
        self.kept = [p.detach().clone() for p in self.parameters]
        torch._foreach_copy_([p.data for p in self.parameters], self.mean)

    @torch.no_grad()
    def __exit__(self, *_):
        torch._foreach_copy_([p.data for p in self.parameters], self.kept)
        del self.kept


def save(path, content):
    """Whole or not at all."""
    torch.save(content, f"{path}.new")
    os.replace(f"{path}.new", path)


def log(*words):
    print(time.strftime("%H:%M:%S"), *words, flush=True)


def bf16_is_fast():
    """Whether this processor multiplies bf16 matrices faster than f32 ones: measured, as flags tell only half."""
    took = {}
    for kind in (torch.float32, torch.bfloat16):
        a, b = torch.ones(2048, 256, dtype=kind), torch.ones(256, 1024, dtype=kind)
        for _ in range(3):  # the first ones warm up
            start = time.perf_counter()
            for _ in range(10):
                a @ b
            took[kind] = time.perf_counter() - start
    return took[torch.bfloat16] < 0.8 * took[torch.float32]
