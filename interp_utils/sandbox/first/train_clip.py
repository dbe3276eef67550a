"""Training recipe of the sandbox CLIP. Resumable: run the same command again after a stop.

    python -m interp_utils.sandbox.first.train_clip

Two stages, both on images of the training distribution that are drawn on the fly and never repeat:
1. labels: the visual tower learns the factors (a linear layer per factor on the embedding, cross-entropy) and, for each
   patch token, which object covers it;
2. contrast: those layers are thrown away, and image and text tower are trained together by contrast. A caption that is
   true of several images of a batch has all of them as its positives, and the other way round.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...hooks import forward_hooks
from ...models import Clip
from ..clip import save
from ..train_clip import optimizer_for
from . import clip
from .captions import caption, prompts, truth
from .render import render
from .tasks import HIDDEN, factor_images, factor_label, to_pixels, zero_shot_report
from .world import CATEGORIES, FACTORS, Spec, training

N_OBJECTS = len(FACTORS["object"])
BACKGROUND = N_OBJECTS
CLASS_TOKEN_DROPOUT = 0.3


def vocabulary(n_captions: int = 60_000) -> torch.Tensor:
    """Sorted ids of all tokens that captions and prompts use."""
    rng = np.random.default_rng(0)
    texts = {caption(training(seed), rng).text for seed in range(n_captions)}
    values = {**FACTORS, "category": (*CATEGORIES, "animal")}
    texts.update(text for factor in values for value in values[factor] for text in prompts(factor, value))
    return torch.unique(clip.tokenizer()(sorted(texts)))


class CompactTokenizer:
    """OpenCLIP's tokenizer with ids counted within the vocabulary, so that training needs a small embedding table."""

    def __init__(self, token_ids: torch.Tensor):
        self.tokenizer = clip.tokenizer()
        self.new_id = torch.full((49408,), -1)
        self.new_id[token_ids] = torch.arange(len(token_ids))  # keeps the order: the end token stays the largest

    def __call__(self, texts: list[str]) -> torch.Tensor:
        return self.new_id[self.tokenizer(texts)]


def patch_labels(masks: np.ndarray, objects: list[int]) -> np.ndarray:
    """The object that covers each patch the most, BACKGROUND below a tenth: int [64]."""
    side = 64 // clip.PATCH
    cover = masks.reshape(len(masks), side, clip.PATCH, side, clip.PATCH).mean(axis=(2, 4)).reshape(len(masks), -1)
    return np.where(cover.max(0) > 0.1, np.array(objects)[cover.argmax(0)], BACKGROUND)


def labels(spec: Spec) -> list[int]:
    """Index of each factor's value, HIDDEN where the image does not show one value of it."""
    return [HIDDEN if spec.second and factor in ("object", "colour", "count") else factor_label(spec, factor) for factor in FACTORS]


class Batches(torch.utils.data.Dataset):
    """Batch number k of the endless training set, always the same for the same k."""

    def __init__(self, n_batches: int, size: int, tokenizer, start: int, stage: str):
        self.n, self.size, self.tokenizer, self.start, self.stage = n_batches, size, tokenizer, start, stage

    def __len__(self):
        return self.n

    def __getitem__(self, k):
        seeds = range((self.start + k) * self.size, (self.start + k + 1) * self.size)
        specs = [training(seed) for seed in seeds]
        images = [render(spec) for spec in specs]
        pixels = to_pixels(np.stack([image.pixels for image in images]))
        if self.stage == "contrast":
            rng = np.random.default_rng([self.start + k, 3])
            captions = [caption(spec, rng) for spec in specs]
            return pixels, self.tokenizer([c.text for c in captions]), torch.from_numpy(truth(captions, specs, told=True))
        kinds = [[FACTORS["object"].index(n) for n in [s.object] * s.count + ([s.second] if s.second else [])] for s in specs]
        patches = np.stack([patch_labels(image.masks, kind) for image, kind in zip(images, kinds)])
        return pixels, torch.tensor([labels(spec) for spec in specs]), torch.from_numpy(patches)


def tokens_after_dropping(visual, pixels: torch.Tensor, drop: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Final tokens [B, 1+K, D] when a share of the patches is left out, and which patches were kept [B, K]."""
    x = visual._embeds(pixels)
    n = x.shape[1] - 1
    keep = torch.rand(len(x), n).argsort(1)[:, : round(n * (1 - drop))]
    patches = x[:, 1:].gather(1, keep[..., None].expand(-1, -1, x.shape[2]))
    return visual.ln_post(visual.transformer(torch.cat([x[:, :1], patches], 1))), keep


def class_token_dropout(visual, share: float):
    """Leave out, at random, what an MLP adds to the class token (for attention: half as often), for a `with` block.

    Without it the last MLPs say nearly everything a second time; large CLIPs do not need their direct effects.
    """

    def hook_for(share):
        def hook(module, args, output):
            kept = (torch.rand(len(output), 1, 1) >= share).to(output) / (1 - share)
            return torch.cat([output[:, :1] * kept, output[:, 1:]], 1)

        return hook

    hooks = []
    for block in visual.transformer.resblocks:
        hooks += [(block.ls_1, hook_for(share / 2)), (block.ls_2, hook_for(share))]
    return forward_hooks(hooks)


class LabelLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.factors = nn.ModuleList(nn.Linear(clip.EMBED, len(values)) for values in FACTORS.values())
        self.patch = nn.Linear(clip.WIDTH, N_OBJECTS + 1)

    def forward(self, model, batch, drop):
        pixels, factor_labels, patches = batch
        x, keep = tokens_after_dropping(model.visual, pixels, drop)
        embedding = x[:, 0] @ model.visual.proj
        loss = sum(
            F.cross_entropy(head(embedding), factor_labels[:, k], ignore_index=HIDDEN) for k, head in enumerate(self.factors)
        )
        weight = torch.full((N_OBJECTS + 1,), 2.0)
        weight[BACKGROUND] = 0.5
        return loss + 2 * F.cross_entropy(self.patch(x[:, 1:]).flatten(0, 1), patches.gather(1, keep).flatten(), weight)


def contrast_loss(scores: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of scores [texts, images] both ways, where all pairs that are `true` (bool) share the probability."""
    target = true.float()
    return sum(
        F.cross_entropy(logits, share / share.sum(1, keepdim=True)) for logits, share in ((scores, target), (scores.T, target.T))
    )


class ContrastLoss(nn.Module):
    def forward(self, model, batch, drop):
        pixels, tokens, true = batch
        x, _ = tokens_after_dropping(model.visual, pixels, drop)
        images = F.normalize(x[:, 0] @ model.visual.proj, dim=-1)
        texts = model.encode_text(tokens, normalize=True)
        return contrast_loss(model.logit_scale.exp().clamp(max=60) * texts @ images.T, true)


@torch.no_grad()
def report(model, heads, tokenizer, n: int = 1024) -> dict:
    """Accuracy of each factor on fresh balanced images, read out linearly (first stage) or from text (second stage)."""
    if isinstance(heads, ContrastLoss):
        return zero_shot_report(Clip(model, tokenizer=tokenizer), n, seed=1)
    scores = {}
    for factor, head in zip(FACTORS, heads.factors):
        pixels, label = next(iter(torch.utils.data.DataLoader(factor_images(factor, n, seed=1), batch_size=n)))
        scores[factor] = (head(model.encode_image(pixels)).argmax(1) == label).float().mean().item()
    return scores


def run(stage: str, model, tokenizer, out: Path, steps: int, size: int, lr: float, drop) -> None:
    """Train one stage, from its checkpoint if there is one, for at most `steps` steps."""
    heads = LabelLoss() if stage == "labels" else ContrastLoss()
    optimizer = optimizer_for(model, heads, lr)
    path, step = out / f"{stage}.pt", 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]

    def save():
        part = path.with_suffix(".part")
        torch.save(
            {"model": model.state_dict(), "heads": heads.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, part
        )
        part.replace(path)

    offset = {"labels": 0, "contrast": 10**6}[stage]  # batch numbers, so that no image comes twice
    batches = Batches(steps - step, size, tokenizer, offset + step, stage)
    loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=4)
    saved = time.time()
    model.train()
    for batch in loader:
        warm, done = min(1, (step + 1) / 100), step / steps
        rate = lr * warm * (0.5 + 0.5 * math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        with sdpa_kernel(SDPBackend.MATH), class_token_dropout(model.visual, CLASS_TOKEN_DROPOUT):
            loss = heads(model, batch, drop(done))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 25 == 0:
            print(f"{stage} {step}/{steps} loss {loss.item():.3f} {time.strftime('%H:%M:%S')}", flush=True)
        if step % 250 == 0 or step == steps:
            print(stage, step, {f: round(a, 3) for f, a in report(model.eval(), heads, tokenizer).items()}, flush=True)
            model.train()
        if time.time() - saved > 120 or step == steps:
            save()
            saved = time.time()
    model.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/sandbox_clip"), help="checkpoints and finished weights")
    parser.add_argument("--label-steps", type=int, default=700)
    parser.add_argument("--contrast-steps", type=int, default=800)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.set_num_threads(2)
    token_ids = vocabulary()
    model = clip.build()
    model.token_embedding = nn.Embedding(len(token_ids), clip.WIDTH)
    nn.init.normal_(model.token_embedding.weight, std=0.02)
    tokenizer = CompactTokenizer(token_ids)
    schedule = (
        ("labels", args.label_steps, 128, 2e-3, lambda done: 0.5 if done < 0.6 else 0.25),
        ("contrast", args.contrast_steps, 256, 1e-3, lambda done: 0.5 if done < 0.7 else 0.0),
    )
    for stage, steps, size, lr, drop in schedule:
        run(stage, model, tokenizer, args.out, steps, size, lr, drop)
    save(model, token_ids, args.out / "clip.safetensors")


if __name__ == "__main__":
    main()
