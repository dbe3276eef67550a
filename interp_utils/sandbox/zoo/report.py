"""What the models of the zoo learned, measured: linear probes, zero-shot, masked error, and generated objects that CLIP knows.

python -m interp_utils.sandbox.zoo.report    the numbers and the sample sheet of the data card for all shipped weights
"""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torchvision.utils import make_grid, save_image

from ...models import DATA, load_clip
from ...stream import collect
from ..first import clip as sandbox_clip
from ..first.tasks import HIDDEN, zero_shot_classifier
from ..first.world import FACTORS
from .data import KINDS, balanced_images


@torch.no_grad()
def features(model: nn.Module, pixels: Tensor) -> np.ndarray:
    """Pooled features of frozen images [n, D]: mean over space, and for a ViT also the class token.

    model: a timm model, or an open_clip model (its image embedding).
    """
    parts = []
    for batch in pixels.split(250):
        if hasattr(model, "encode_image"):
            parts.append(model.encode_image(batch))
            continue
        x = model.forward_features(batch)
        parts.append(x.mean((2, 3)) if x.ndim == 4 else torch.cat([x[:, 0], x[:, 1:].mean(1)], 1))
    return torch.cat(parts).numpy()


def linear_probe(
    model: nn.Module, n_train: int = 4000, n_test: int = 2000, factors=tuple(FACTORS), seed: int = 0
) -> dict[str, float]:
    """Accuracy of a logistic regression on frozen features, trained and tested on fresh balanced images, per factor.

    Images that do not show a factor (colour outside photos) count neither in training nor in the test.
    """
    pixels, labels = balanced_images(n_train + n_test, seed)
    x = features(model.eval(), pixels)
    accuracy = {}
    for factor in factors:
        shown, test = labels[factor] != HIDDEN, np.arange(len(x)) >= n_train
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
        probe.fit(x[shown & ~test], labels[factor][shown & ~test])
        accuracy[factor] = probe.score(x[shown & test], labels[factor][shown & test])
    return accuracy


class Texts:
    """The text side of an open_clip model, as `zero_shot_classifier` asks for it."""

    def __init__(self, model: nn.Module, tokenizer):
        self.model, self.tokenizer = model, tokenizer

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return self.model.encode_text(self.tokenizer(texts), normalize=True)


@torch.no_grad()
def zero_shot(model, tokenizer, n: int = 2000, seed: int = 1) -> dict[str, float]:
    """Accuracy of each factor from text on fresh balanced images, of a CLIP whose image tower may be a ResNet."""
    pixels, labels = balanced_images(n, seed)
    x = F.normalize(torch.from_numpy(features(model.eval(), pixels)), dim=-1)
    accuracy = {}
    for factor in FACTORS:
        guess, shown = (x @ zero_shot_classifier(Texts(model, tokenizer), factor).T).argmax(1).numpy(), labels[factor] != HIDDEN
        accuracy[factor] = (guess == labels[factor])[shown].mean().item()
    return accuracy


@torch.no_grad()
def recognised(images: Tensor, kinds: Tensor) -> dict[str, float]:
    """Share of generated images whose object the sandbox CLIP names rightly among all 32, for each kind and overall.

    images: [B, 3, 64, 64] in -1..1; kinds: [B], indices into KINDS. "confidence" is the mean probability of the right name.
    """
    clip = load_clip("sandbox-first", device="cpu")
    right = torch.tensor([FACTORS["object"].index(kind) for kind in KINDS])[kinds]
    embeddings = collect(clip, images, lambda batch: clip.encode_image(2 * batch.pixels))  # CLIP's range is -2..2
    scores = F.normalize(embeddings, dim=-1) @ zero_shot_classifier(clip, "object").T
    correct = (scores.argmax(1) == right).float()
    confidence = (clip.model.logit_scale.exp() * scores).softmax(1).gather(1, right[:, None]).mean().item()
    shares = {kind: correct[kinds == k].mean().item() for k, kind in enumerate(KINDS) if (kinds == k).any()}
    return {"all": correct.mean().item(), "confidence": confidence, **shares}


@torch.no_grad()
def told(images: Tensor, factor: str) -> dict:
    """How often the sandbox CLIP gives each value of a factor to images in -1..1: does a generator vary it?"""
    clip = load_clip("sandbox-first", device="cpu")
    classifier = zero_shot_classifier(clip, factor)
    guesses = collect(clip, images, lambda batch: (clip.encode_image(2 * batch.pixels) @ classifier.T).argmax(1))
    shares = torch.bincount(guesses, minlength=len(classifier)) / len(images)
    return {value: round(share.item(), 2) for value, share in zip(FACTORS[factor], shares)}


def main():
    from .models import load
    from .train_generators import NOISE, samples
    from .train_mae import error_report

    def show(name: str, numbers: dict[str, float]) -> None:
        print(name, {key: round(value, 3) for key, value in numbers.items()}, flush=True)

    for name in ("resnet", "dino_resnet", "dino_vit", "mae_vit", "clip_resnet"):
        show(f"{name}, linear probe", linear_probe(load(name)))
    show("clip_resnet, zero-shot", zero_shot(load("clip_resnet"), sandbox_clip.tokenizer()))
    show("mae, squared error", error_report(load("mae_vit"), load("mae_decoder")))
    sheets = []
    for name, limits in (("big_gan", {"limit": 1}), ("style_gan", {"psi": 0.7})):
        noise = NOISE[name.removesuffix("_gan")]
        options = limits | noise
        sheets.append(make_grid(samples(load(name), 8, seed=1, **options)[0], nrow=8, normalize=True, value_range=(-1, 1)))
        show(f"{name}, recognised with {limits}", recognised(*samples(load(name), 200, seed=3, **options)))
        images, kinds = samples(load(name), 200, seed=3, **noise)
        show(f"{name}, recognised", recognised(images, kinds))
        scenes, colours, places = (told(images, factor) for factor in ("scene", "colour", "place"))
        print(f"{name}, what CLIP sees:", scenes, colours, places)
    save_image(torch.cat(sheets, 2), DATA / "figures" / "generators.png")


if __name__ == "__main__":
    main()
