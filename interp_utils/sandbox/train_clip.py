"""Training recipe of the sandbox's CLIP: images and captions, nothing else. Resumable: run the same command again.

    python -m interp_utils.sandbox.train_clip --seed 0

Four stages, on images of the training distribution that are drawn on the fly and never repeat:
1. convolutional: a small convolutional CLIP learns by contrast of images and captions. It is the teacher of
2. lessons: the ViT learns by contrast, and to predict the teacher's embedding at the class token and the teacher's 8 x 8 map
   at the patches of a middle layer; both predictions are linear and are thrown away afterwards. A plain ViT of this size does
   not start to learn objects within as many images. The text tower is the teacher's, and learns on;
3. contrast: contrast of images and captions alone;
4. details: the same, with captions that more often tell colours, places and the like than the object alone.
No label, mask or dropout of a component is used anywhere. Captions that are equal share their images as positives.
"""

import argparse
import contextlib
import json
import math
import time
from functools import partial
from pathlib import Path

import numpy as np
import timm.optim.muon
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from . import clip
from .captions import DETAILED, SHORT, SYNONYMS, caption, prompts, values
from .render import draw
from .tasks import EVALUATION, HIDDEN, factor_label, to_pixels
from .teacher import TEACHER_CHANNELS, ConvolutionalTower
from .world import FACTORS, balanced, natural

IMAGES_PER_SEED = 10**8  # image numbers of one training seed; no two seeds of training share an image
STAGES = {  # images, batch size, learning rate, the share of it to which a cosine falls by the end
    "convolutional": (280_000, 128, 2e-3, 0.02),
    "lessons": (160_000, 128, 2e-3, 1.0),
    "contrast": (120_000, 128, 2e-3, 0.7),
    "details": (240_000, 128, 2e-3, 0.02),
}
PATCH_DROPOUT = 0.5  # of a ViT's patches while it learns (Li et al., 2023), none in the last tenth of the last stage


def vocabulary(n_captions: int = 40_000) -> torch.Tensor:
    """Sorted ids of all tokens that captions and prompts use."""
    rng = np.random.default_rng(0)
    texts = {caption(natural(seed), rng).text for seed in range(n_captions)}
    texts.update(text for factor in (*FACTORS, "category", "family") for value in values(factor) for text in prompts(factor, value))
    texts.update(word for words in SYNONYMS.values() for word in words)
    return torch.unique(clip.tokenizer()(sorted(texts)))


class CompactTokenizer:
    """OpenCLIP's tokenizer, word by word, with ids counted within the vocabulary, so that the embedding table is small."""

    def __init__(self, token_ids: torch.Tensor):
        self.tokenizer = clip.tokenizer()
        self.new_id = {old: new for new, old in enumerate(token_ids.tolist())}  # keeps the order: the end token stays the largest
        self.words: dict[str, list[int]] = {}

    def __call__(self, texts: list[str]) -> torch.Tensor:
        rows = torch.full((len(texts), clip.CONTEXT), self.new_id[0])
        start, end = (self.new_id[token] for token in (self.tokenizer.sot_token_id, self.tokenizer.eot_token_id))
        for row, text in zip(rows, texts):
            ids = [start, *(number for word in text.split() for number in self._word(word)), end]
            row[: len(ids)] = torch.tensor(ids)
        return rows

    def _word(self, word: str) -> list[int]:
        if word not in self.words:
            self.words[word] = [self.new_id[token] for token in self.tokenizer.encode(word)]
        return self.words[word]


class Batches(torch.utils.data.Dataset):
    """Batch number k of a stage, always the same for the same k: pixels uint8, tokens of its different captions, and the
    caption of each image."""

    def __init__(self, n_batches: int, size: int, tokenizer, first: int, shares=SHORT):
        self.n, self.size, self.tokenizer, self.first, self.shares = n_batches, size, tokenizer, first, shares

    def __len__(self):
        return self.n

    def __getitem__(self, k: int):
        start = self.first + k * self.size
        specs = [natural(seed) for seed in range(start, start + self.size)]
        rng = np.random.default_rng([start, 6])
        texts, which = np.unique([caption(spec, rng, self.shares).text for spec in specs], return_inverse=True)
        return draw(specs), self.tokenizer(texts.tolist()), torch.from_numpy(which)


def encode_text(model, tokens: torch.Tensor) -> torch.Tensor:
    """As `model.encode_text(tokens, normalize=True)`, without the places after the longest text."""
    length = int(tokens.argmax(1).max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return F.normalize((x[torch.arange(len(x)), tokens.argmax(1)] @ model.text_projection).float(), dim=-1)


def tokens_after_dropping(visual, pixels: torch.Tensor, drop: float) -> tuple[torch.Tensor, torch.Tensor]:
    """What goes into the blocks when a share of the patches is left out [B, 1+K, D], and which are kept [B, K]."""
    x = visual._embeds(pixels)
    n = x.shape[1] - 1
    keep = torch.rand(len(x), n).argsort(1)[:, : round(n * (1 - drop))]
    return torch.cat([x[:, :1], x[:, 1:].gather(1, keep[..., None].expand(-1, -1, x.shape[2]))], 1), keep


def contrast_loss(model, images: torch.Tensor, texts: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Cross-entropy both ways; images [B, E], the different texts [T, E], which: the text of each image [B]."""
    scores = model.logit_scale.exp().clamp(max=100) * F.normalize(images.float(), dim=-1) @ texts[which].T
    same = (which[:, None] == which).float()
    return (
        F.cross_entropy(scores, same / same.sum(1, keepdim=True)) / 2
        + F.cross_entropy(scores.T, same / same.sum(1, keepdim=True)) / 2
    )


class Contrast(nn.Module):
    """Contrast of images and captions, with patches left out where the image tower is a ViT."""

    def forward(self, model, pixels, drop):
        if isinstance(model.visual, ConvolutionalTower):
            return model.visual(pixels), 0.0
        x, _ = tokens_after_dropping(model.visual, pixels, drop)
        return model.visual.ln_post(model.visual.transformer(x)[:, 0]) @ model.visual.proj, 0.0


class Lessons(nn.Module):
    """Contrast, and what the teacher sees: its whitened embedding at the class token, its map at the patches of a middle layer."""

    def __init__(self, teacher: ConvolutionalTower):
        super().__init__()
        self.teacher = [teacher.eval().requires_grad_(False)]  # in a list: no parameters of ours
        self.embedding, self.patches = nn.Linear(clip.EMBED, clip.EMBED), nn.Linear(clip.WIDTH, TEACHER_CHANNELS)
        embeddings, maps = self._look(to_pixels(draw([natural(seed) for seed in range(1500)])))
        self.mean, self.map_mean, self.map_scale = embeddings.mean(0), maps.mean((0, 1)), maps.std((0, 1)) + 1e-3
        variances, directions = torch.linalg.eigh(torch.cov(embeddings.T))
        self.whitening = directions / (variances.clamp(min=0) + 0.1 * variances.mean()).sqrt()
        self.power = ((embeddings - self.mean) @ self.whitening).square().mean()

    @torch.no_grad()
    def _look(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = self.teacher[0].lower(pixels.contiguous(memory_format=torch.channels_last))
        return F.normalize(self.teacher[0].embed(maps).float(), dim=-1), maps.flatten(2).mT.float()

    def forward(self, model, pixels, drop):
        embeddings, maps = self._look(pixels)
        x, keep = tokens_after_dropping(model.visual, pixels, drop)
        for k, block in enumerate(model.visual.transformer.resblocks):
            x = block(x)
            if k == clip.LAYERS // 2 - 1:
                middle = x[:, 1:]
        images = model.visual.ln_post(x[:, 0]) @ model.visual.proj
        wanted = ((maps - self.map_mean) / self.map_scale).gather(1, keep[..., None].expand(-1, -1, TEACHER_CHANNELS))
        at_class = (self.embedding(images).float() - (embeddings - self.mean) @ self.whitening).square().mean() / self.power
        return images, 2 * at_class + (self.patches(middle).float() - wanted).square().mean()


def optimizer_for(model, extra, rate: float, inside: str = "blocks"):
    """Muon for the matrices and kernels of the blocks (`inside`: what their names hold), AdamW for everything else."""
    timm.optim.muon.zeropower_via_newtonschulz = partial(_orthogonalise, dtype=torch.float32)  # bfloat16 is slow on most CPUs
    matrices = [p for name, p in model.named_parameters() if p.ndim > 1 and inside in name]
    chosen = {id(p) for p in matrices}
    rest = [p for p in [*model.parameters(), *extra.parameters()] if id(p) not in chosen]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": rest, "use_fallback": True}]
    return timm.optim.muon.Muon(groups, lr=rate, momentum=0.95, nesterov=True)


_orthogonalise = timm.optim.muon.zeropower_via_newtonschulz


@torch.no_grad()
def report(model, tokenizer, n: int = 1200) -> dict[str, float]:
    """Zero-shot accuracy of each factor on balanced images that no training sees."""
    specs = [balanced(EVALUATION + 7 * 10**8 + k) for k in range(n)]
    with torch.autocast("cpu", torch.bfloat16):
        images = torch.cat([model.visual(to_pixels(draw(part))).float() for part in np.array_split(np.array(specs, object), 6)])
        images, right = F.normalize(images, dim=-1), {}
        for factor in FACTORS:
            texts = [prompts(factor, value) for value in values(factor)]
            flat = encode_text(model, tokenizer([text for group in texts for text in group])).split([len(group) for group in texts])
            classifier = torch.stack([F.normalize(vectors.mean(0), dim=0) for vectors in flat])
            labels = torch.tensor([factor_label(spec, factor) for spec in specs])
            shown = labels != HIDDEN
            right[factor] = ((images @ classifier.T).argmax(1) == labels)[shown].float().mean().item()
    return right


def run(stage: str, model, heads, tokenizer, out: Path, seed: int, shares: dict[str, float]) -> None:
    """Train one stage, from its checkpoint if there is one, and write what it reaches to `log.jsonl`."""
    images, size, rate, end = STAGES[stage]
    steps = max(1, round(images * shares.get(stage, 1) / size))
    optimizer = optimizer_for(model, heads, rate)
    path, step, seconds = out / f"{stage}.pt", 0, 0.0
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]

    def save():
        part = path.with_suffix(".part")
        state = {"model": model.state_dict(), "heads": heads.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "step": step, "seconds": seconds}, part)
        part.replace(path)

    first = seed * IMAGES_PER_SEED + 10**7 * list(STAGES).index(stage)
    last = stage == list(STAGES)[-1]
    batches = Batches(max(0, steps - step), size, tokenizer, first + step * size, DETAILED if last else SHORT)
    loader = torch.utils.data.DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=4)
    torch.manual_seed(seed * 1000 + step)
    model.train()
    saved = started = time.time()
    losses = []
    for pixels, tokens, which in loader:
        done = step / steps
        fall = 0.5 + 0.5 * math.cos(done * math.acos(2 * end - 1))
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50) * fall
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            embeddings, extra = heads(model, to_pixels(pixels), 0.0 if last and done > 0.9 else PATCH_DROPOUT)
            loss = contrast_loss(model, embeddings, encode_text(model, tokens), which) + extra
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        losses.append(loss.item())
        if step % 100 == 0 or step == steps:
            seconds, started = seconds + time.time() - started, time.time()
            row = {"stage": stage, "images": step * size, "seconds": round(seconds), "loss": round(float(np.mean(losses)), 3)}
            losses.clear()
            if step % 200 == 0 or step == steps:
                row |= {factor: round(value, 3) for factor, value in report(model.eval(), tokenizer).items()}
                model.train()
            print(json.dumps(row), flush=True)
            with open(out / "log.jsonl", "a") as log:
                log.write(json.dumps(row) + "\n")
            started = time.time()  # the report does not count
        if time.time() - saved > 120 or step == steps:
            save()
            saved = time.time()
    model.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None, help="checkpoints, log, weights; build/clip/SEED by default")
    parser.add_argument("--threads", type=int, default=2)
    for stage, (images, *_) in STAGES.items():
        parser.add_argument(f"--{stage}", type=float, default=1.0, help=f"share of the {images:,} images of this stage")
    args = parser.parse_args()
    out = args.out or Path("build/clip") / str(args.seed)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    token_ids = vocabulary()
    tokenizer = CompactTokenizer(token_ids)
    shares = {stage: getattr(args, stage) for stage in STAGES}

    def new(visual=None):
        model = clip.build()
        model.token_embedding = nn.Embedding(len(token_ids), clip.TEXT_WIDTH)
        nn.init.normal_(model.token_embedding.weight, std=0.02)
        model.visual = visual or model.visual
        return model

    teacher = new(ConvolutionalTower().to(memory_format=torch.channels_last))
    run("convolutional", teacher, Contrast(), tokenizer, out, args.seed, shares)
    model = new()
    texts = {name: tensor for name, tensor in teacher.state_dict().items() if not name.startswith("visual.")}
    model.load_state_dict(texts, strict=False)
    run("lessons", model, Lessons(teacher.visual), tokenizer, out, args.seed, shares)
    for stage in ("contrast", "details"):
        run(stage, model, Contrast(), tokenizer, out, args.seed, shares)
    clip.save(model, token_ids, out / "clip.safetensors")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
