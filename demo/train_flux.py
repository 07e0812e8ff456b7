"""Stage 2: the transformer and both text encoders, trained together to turn noise into the set's latents.

A caption means data.LOOKS pictures, and the noise tells which one (Coupling), so that pictures come out sharp
without guidance and in few steps, and differ from seed to seed.
"""

import random
import shutil

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

import common
import data
import make_tokenizers
from train_vae import pictures, tensor

BATCH = 32
MATRIX_RATE, OTHER_RATE = 2e-3, 2e-3
SHIFT = 3.0  # of the schedule, in training and in scheduler_config.json: most steps at high noise
STEPS = 12
FORM_WEIGHTS = (0.6, 0.15, 0.1, 0.15)  # how often each form of caption is seen
WAY_WEIGHTS = (0.4, 0.1, 0.05, 0.1, 0.15, 0.2)  # and each way of typing it
EMPTY = 0.02  # the share of pictures shown without their caption: what true CFG leads away from
LENGTH = make_tokenizers.LENGTH
WIDTH = 16  # latent pixels a side


def new_text_encoders(clip_tokens, t5_tokens):
    clip = CLIPTextConfig(
        vocab_size=clip_tokens,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        # As in the published checkpoints: 2 means "pool at the largest id", and the end mark is the largest.
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    t5 = T5Config(
        vocab_size=t5_tokens,
        d_model=192,
        d_kv=48,
        d_ff=384,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        is_encoder_decoder=False,
        use_cache=False,
        tie_word_embeddings=False,
    )
    return CLIPTextModel(clip), T5EncoderModel(t5)


def new_transformer():
    net = FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=64,
        num_attention_heads=4,
        joint_attention_dim=192,
        pooled_projection_dim=128,
        guidance_embeds=False,
        axes_dims_rope=(16, 24, 24),
    )
    for name, p in net.named_parameters():  # every block starts as the identity, the output as zero
        if "norm" in name and ".linear." in name or name.startswith("proj_out."):
            torch.nn.init.zeros_(p)
    return net


class Model:
    """The parts below one folder: tokenizers, text encoders, transformer."""

    PARTS = ("text_encoder", "text_encoder_2", "transformer")

    def __init__(self, folder):
        if not (folder / "tokenizer").exists():
            if (common.MODEL / "tokenizer").exists():
                for name in ("tokenizer", "tokenizer_2"):
                    shutil.copytree(common.MODEL / name, folder / name)
            else:
                make_tokenizers.make(folder)
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        self.tokenizer_2 = T5TokenizerFast.from_pretrained(folder / "tokenizer_2")
        start = common.MODEL if (common.MODEL / "transformer").exists() else None
        if (folder / "transformer").exists():
            start = folder
        if start:
            self.text_encoder = CLIPTextModel.from_pretrained(start / "text_encoder", dtype=torch.float32)
            self.text_encoder_2 = T5EncoderModel.from_pretrained(start / "text_encoder_2", dtype=torch.float32)
            self.transformer = FluxTransformer2DModel.from_pretrained(start / "transformer", torch_dtype=torch.float32)
        else:
            self.text_encoder, self.text_encoder_2 = new_text_encoders(len(self.tokenizer), len(self.tokenizer_2))
            self.transformer = new_transformer()
        self.new = start is None
        common.log("flux: starting from", start or "nothing")
        self.image_ids = FluxPipeline._prepare_latent_image_ids(1, WIDTH // 2, WIDTH // 2, "cpu", torch.float32)
        self.text_ids = torch.zeros(LENGTH, 3)

    def to(self, kind):
        for part in self.PARTS:
            getattr(self, part).to(kind)
        return self

    def save(self, folder):
        for part in self.PARTS:
            getattr(self, part).save_pretrained(folder / part)

    def named_parameters(self):
        for part in self.PARTS:
            for name, p in getattr(self, part).named_parameters():
                yield f"{part}.{name}", p

    def ids(self, captions):
        """As FluxPipeline makes them: cut and padded to LENGTH, no mask."""
        same = dict(padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
        return [t(captions, **same).input_ids for t in (self.tokenizer, self.tokenizer_2)]

    def velocity(self, x, t, ids):
        return self.transformer(
            hidden_states=x,
            timestep=t,
            pooled_projections=self.text_encoder(ids[0]).pooler_output,
            encoder_hidden_states=self.text_encoder_2(ids[1]).last_hidden_state,
            img_ids=self.image_ids,
            txt_ids=self.text_ids,
            return_dict=False,
        )[0]

    @staticmethod
    def noise(count, seed):
        return pack(torch.randn(count, 16, WIDTH, WIDTH, generator=torch.Generator().manual_seed(seed)))

    @torch.no_grad()
    def sample(self, captions, x, steps=STEPS):
        """Packed latents from noise by Euler's method, on the schedule of scheduler_config.json."""
        s = torch.linspace(1, 0, steps + 1)
        s = SHIFT * s / (1 + (SHIFT - 1) * s)
        ids = self.ids(captions)
        for now, then in zip(s, s[1:]):
            x = x + (then - now) * self.velocity(x, now.expand(len(captions)), ids)
        return x


def pack(z):
    return FluxPipeline._pack_latents(z, len(z), 16, WIDTH, WIDTH)


@torch.no_grad()
def decode(vae, packed):
    z = FluxPipeline._unpack_latents(packed, data.SIZE, data.SIZE, 8)
    return pictures(vae.decode(z / vae.config.scaling_factor + vae.config.shift_factor).sample)


class Coupling:
    """Which look a noise becomes: the sign of a sum over the whole noise, on one channel of the latent with the signs
    of a chessboard, in which pictures have next to nothing. Were looks drawn apart from the noise, the first steps
    could only aim at the mean of both, and few steps would end in a blur; so the first step already knows. The noise
    stays what torch.randn makes, as the sum is as often above zero as below."""

    def __init__(self):
        board = 1 - 2 * ((torch.arange(WIDTH)[:, None] + torch.arange(WIDTH)) % 2)
        direction = torch.zeros(1, 16, WIDTH, WIDTH)
        direction[:, 0] = board / WIDTH  # of length 1
        self.direction = pack(direction)[0]

    def sums(self, noise):
        return torch.einsum("nij,ij->n", noise, self.direction)

    def look(self, noise):
        return (self.sums(noise) > 0).long()

    def turned(self, noise, looks):
        """The noise, its sum's sign turned to that of the look wanted."""
        sums = self.sums(noise)
        return noise + (sums.abs() * (2 * looks - 1) - sums)[:, None, None] * self.direction


@torch.no_grad()
def listen(net, coupling, strength=0.4, head=2):
    """Gives the first block an ear for Coupling. Training alone finds it too slowly: the sum is spread thinly over all
    image tokens, and no head looks at all of them evenly. One channel of the residual takes each token's share of the
    sum and is left alone by the modulation. One head's queries and keys become constants, in the dimensions that
    positions do not turn, alike for image tokens and opposite for text, so that it averages over the image; one of its
    values is that channel, and goes into every token's residual in a direction of its own, from which training
    goes on. In a trained transformer, this head was the one with the most even attention."""
    block, width = net.transformer_blocks[0], net.inner_dim
    attention, size = block.attn, width // net.config.num_attention_heads
    # The channel that the block reads least.
    read = sum(getattr(attention, part).weight.square().sum(0) for part in ("to_q", "to_k", "to_v"))
    channel = (read * net.x_embedder.weight.square().sum(1)).argmin().item()
    share = coupling.direction[0] / coupling.direction[0].norm()  # the same in each token; N(0, 1) there
    net.x_embedder.weight[channel], net.x_embedder.bias[channel] = 4 * share, 0
    for offset in (0, width):  # shift and scale
        block.norm1.linear.weight[offset + channel], block.norm1.linear.bias[offset + channel] = 0, 0

    first = head * size
    constant = torch.zeros(size)
    constant[: net.config.axes_dims_rope[0]] = 1  # all tokens have the same position on the first axis
    for part, value in (("to_q", 1), ("add_q_proj", 1), ("to_k", 1), ("add_k_proj", -1)):
        getattr(attention, part).weight[first : first + size] = 0
        getattr(attention, part).bias[first : first + size] = value * constant
    for part in (attention.to_v, attention.add_v_proj):
        part.weight[first], part.bias[first] = 0, 0
    attention.to_v.weight[first, channel] = 2  # comes out as 1.07 times the sum, with correlation 0.995 at full noise
    for out, gate in ((attention.to_out[0], block.norm1), (attention.to_add_out, block.norm1_context)):
        usual = gate.linear.bias[2 * width : 3 * width]
        usual = usual.abs().clamp(min=0.3) * (2 * (usual >= 0) - 1)
        out.weight[:, first] = torch.randn(width).sign() * strength / usual


def encoded(vae, subjects, pool):
    """Normalised packed latents, [look, subject, background, token, channel], bf16."""

    @torch.no_grad()
    def one(number, subject):
        name, rgba = subjects[subject]
        x = tensor([data.compose(rgba, color, **data.look(number, name)) for color in data.BACKGROUNDS.values()])
        return vae.encode(x).latent_dist.mode()

    numbers = [n for n in range(data.LOOKS) for _ in subjects]
    z = torch.cat(list(pool.map(one, numbers, [*range(len(subjects))] * data.LOOKS)))
    if vae.config.shift_factor is None:
        vae.register_to_config(shift_factor=z.mean().item(), scaling_factor=1 / z.std().item())
    z = (z - vae.config.shift_factor) * vae.config.scaling_factor
    return pack(z).view(data.LOOKS, len(subjects), len(data.BACKGROUNDS), -1, 64).bfloat16()


class Hardness:
    """How hard each look of each subject still is: its loss over that of all at the same noise level. Hard ones are
    drawn more often: faces, much alike, are learned long before animals."""

    LEVELS = 16

    def __init__(self, subjects):
        self.subject = torch.ones(data.LOOKS * subjects)
        self.level = torch.zeros(self.LEVELS)

    def expect(self, latents):
        """For weights that know the first look only: the others are hard by how much they differ from it."""
        news = (latents[:, :, 0].float() - latents[:1, :, 0].float()).square().mean((2, 3))
        self.subject = 0.35 + (news / news[1:].mean()).clamp(max=2).flatten()

    def draw(self, count):
        return random.choices(range(len(self.subject)), self.subject.tolist(), k=count)

    def update(self, subjects, told, t, losses):
        for s, known, level, value in zip(subjects, told, (t * (self.LEVELS - 1e-3)).long(), losses):
            if not known:
                continue
            usual = self.level[level]
            self.level[level] = usual + (value - usual) * 0.02 if usual else value
            self.subject[s] += ((value / self.level[level]).clamp(0.2, 5) - self.subject[s]) * 0.05


class Judge:
    """Samples of fixed prompts as a grid, and how many are nearest to the picture that was meant, by the prompt and
    by the noise."""

    def __init__(self, subjects, count=48, seed=7):
        chance = random.Random(seed)
        self.names = list(data.BACKGROUNDS)
        self.meant = [(i, chance.randrange(10)) for i in chance.sample(range(len(subjects)), count - 1)]
        self.meant.insert(0, ([n for n, _ in subjects].index("raccoon"), self.names.index("purple")))
        self.captions = [data.caption(subjects[s][0], self.names[b], 0) for s, b in self.meant]
        self.known = torch.cat([self.look(subjects, number) for number in range(data.LOOKS)])

    @staticmethod
    def look(subjects, number):
        colors = data.BACKGROUNDS.values()
        every = [[data.compose(rgba, c, **data.look(number, name)) for c in colors] for name, rgba in subjects]
        return torch.cat([Judge.small(row) for row in every])

    @staticmethod
    def small(images):
        return F.avg_pool2d(tensor(images), 4).flatten(1)

    def __call__(self, model, vae, pool, path):
        def some(part):
            noise = model.noise(len(self.captions[part]), seed=1 + part.start)
            return decode(vae, model.sample(self.captions[part], noise)), Coupling().look(noise).tolist()

        parts = list(pool.map(some, common.shares(len(self.captions))))
        made, looks = [sum(lists, []) for lists in zip(*parts)]
        data.grid(made, 12).save(path)
        distance = torch.cdist(self.small(made), self.known)
        every = len(self.known) // data.LOOKS
        nearest = [(i % every // 10, i % 10, i // every) for i in distance.argmin(1).tolist()]
        meant = [(*m, look) for m, look in zip(self.meant, looks)]
        right = [sum(a[k] == b[k] for a, b in zip(nearest, meant)) for k in range(3)]
        return "subject {}, background {}, look {} of {} right".format(*right, len(made))


def train(out, hours, rate=1.0, deaf=False):
    common.log(f"flux: {hours:.2f} hours")
    pace, pool = common.Pace(hours, warmup=40), common.workers()
    folder, checkpoint = out / "flux", out / "flux.pt"
    vae = AutoencoderKL.from_pretrained(out / "vae" if (out / "vae").exists() else common.MODEL / "vae")
    subjects = data.subjects()
    kept = out / "latents.pt"  # minutes of work
    latents = torch.load(kept) if kept.exists() else ()
    if len(latents) != data.LOOKS:
        latents = encoded(vae, subjects, pool)
        common.save(kept, latents)
    vae.save_pretrained(out / "vae")  # with the two factors
    judge, coupling = Judge(subjects), Coupling()

    model = Model(folder)
    if (model.new or deaf) and not checkpoint.exists():
        listen(model.transformer, coupling)
    named = list(model.named_parameters())
    # Tables, modulations (zero at first) and the two ends do better with Adam.
    plain = ("embedding.weight", "shared", "bias", "x_embedder", "transformer.proj_out", "norm")
    matrices = [p for n, p in named if p.ndim == 2 and not any(word in n for word in plain)]
    others = [p for n, p in named if not any(p is m for m in matrices)]
    optimizer = common.Optimizer(pool, matrices, others, MATRIX_RATE, OTHER_RATE)
    average = common.Average(p for _, p in named)
    sizes = {part: sum(p.numel() for p in getattr(model, part).parameters()) / 1e6 for part in model.PARTS}
    common.log("flux: millions of parameters", {part: round(size, 2) for part, size in sizes.items()})
    steps, hardness = 0, Hardness(len(subjects))
    if deaf:
        hardness.expect(latents)
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        steps = saved["steps"]
        for (_, p), value in zip(named, saved["weights"], strict=True):
            p.data.copy_(value)
        average.mean, average.steps = saved["mean"], saved["average_steps"]
        optimizer.load_state_dict(saved["optimizer"])
        if len(saved["hardness"]["subject"]) == len(hardness.subject):  # not from when there was one look
            vars(hardness).update(saved["hardness"])
        pace.warmup = 20
        random.seed(steps)  # not the same draws again
        torch.manual_seed(steps)
        common.log("flux: going on from step", steps)

    backgrounds = list(data.BACKGROUNDS)
    captions = [
        [
            model.ids([data.typed(data.caption(name, b, form), way) for name, _ in subjects for b in backgrounds])
            for way in range(data.WAYS)
        ]
        for form in range(data.FORMS)
    ]

    empty = [ids[0] for ids in model.ids([""])]

    def batch():
        drawn, b, f, w = hardness.draw(BATCH), [], [], random.choices(range(data.WAYS), WAY_WEIGHTS, k=BATCH)
        v, s = zip(*(divmod(d, len(subjects)) for d in drawn))
        for _ in range(BATCH):
            form = random.choices(range(data.FORMS), FORM_WEIGHTS)[0]
            b.append(0 if form == data.FORMS - 1 else random.randrange(len(backgrounds)))
            f.append(form)
        told = [random.random() >= EMPTY for _ in range(BATCH)]
        chosen = [captions[f][w] for f, w in zip(f, w)]
        ids = [
            torch.stack([each[k][s * 10 + b] if t else empty[k] for each, s, b, t in zip(chosen, s, b, told)])
            for k in (0, 1)
        ]
        return drawn, told, torch.tensor(v), latents[v, s, b].float(), ids

    def keep():
        with average:
            model.save(folder)
            note = judge(model, vae, pool, out / f"flux-{steps:06d}.png")
        content = {
            "steps": steps,
            "weights": [p.detach() for _, p in named],
            "mean": average.mean,
            "average_steps": average.steps,
            "optimizer": optimizer.state_dict(),
            "hardness": vars(hardness),
        }
        common.save(checkpoint, content)
        common.log(f"flux: step {steps}, {pace.elapsed():.0f} s: {note}")

    fast = common.bf16_is_fast()
    common.log("flux: bf16" if fast else "flux: f32")

    def learn(x, noise, t, ids):
        """Adds one worker's share to the gradients; answers each picture's loss."""
        mix = t[:, None, None]
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            velocity = model.velocity(x + mix * (noise - x), t, ids)
        each = (velocity.float() - (noise - x)).square().mean((1, 2))
        (each.sum() / BATCH).backward()
        return each.detach()

    losses, since, next_note = [], pace.elapsed(), pace.elapsed() + 400
    while pace.running():
        drawn, told, looks, x, ids = batch()
        noise, t = coupling.turned(torch.randn_like(x), looks), torch.rand(len(x))
        t = SHIFT * t / (1 + (SHIFT - 1) * t)
        jobs = [(x[i], noise[i], t[i], [k[i] for k in ids]) for i in common.shares(len(x))]
        each = torch.cat(list(pool.map(lambda job: learn(*job), jobs)))
        hardness.update(drawn, told, t, each)
        optimizer.step(rate * pace.rate())
        average.update()
        steps += 1
        losses.append(each.mean().item())
        if steps % 100 == 0:
            speed = len(losses) * BATCH / (pace.elapsed() - since)
            common.log(f"flux: step {steps}, loss {np.mean(losses):.4f}, {speed:.0f} samples/s")
            losses, since = [], pace.elapsed()
        if pace.elapsed() > next_note:
            keep()
            next_note = pace.elapsed() + 600
    keep()
