"""What the viewers tell apart, measured: linear probes on frozen features, and zero-shot answers of the CLIP.

python -m interp_utils.sandbox.viewers.probes    the tables of the data card for the weights that are there, untrained copies beside
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..captions import prompts, values
from ..clip import tokenizer
from ..known.latents import KINDS
from ..tasks import HIDDEN, to_pixels
from ..world import FACTORS
from .data import balanced_images
from .models import BUILDERS, load

TEN = "object of ten"  # key of the probe on images of the ten kinds that the known generator draws


@torch.no_grad()
def features(model: nn.Module, images: Tensor) -> np.ndarray:
    """Pooled features of frozen images, uint8 [n, 3, 64, 64] -> [n, D]: mean over space, and for a ViT also the class token.

    model: a timm model, or an open_clip model (its image embedding).
    """
    parts = []
    for batch in images.split(250):
        pixels = to_pixels(batch).contiguous(memory_format=torch.channels_last)
        if hasattr(model, "encode_image"):
            parts.append(model.encode_image(pixels))
            continue
        x = model.forward_features(pixels)
        parts.append(x.mean((2, 3)) if x.ndim == 4 else torch.cat([x[:, 0], x[:, 1:].mean(1)], 1))
    return torch.cat(parts).numpy()


def linear_probe(x: np.ndarray, labels: np.ndarray, n_train: int) -> float:
    """Test accuracy of a logistic regression on features [n, D] of which the first n_train are for training.

    Images that do not show a factor (label HIDDEN) count neither in training nor in the test.
    """
    from sklearn.linear_model import LogisticRegression  # a second of every start, which few need
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    shown, test = labels != HIDDEN, np.arange(len(x)) >= n_train
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    return regression.fit(x[shown & ~test], labels[shown & ~test]).score(x[shown & test], labels[shown & test])


def probe(model: nn.Module, n_train: int = 4000, n_test: int = 2000, factors=tuple(FACTORS), seed: int = 0) -> dict[str, float]:
    """Accuracy of linear probes for some factors on balanced images, and for the object on images of `KINDS` alone (`TEN`)."""
    images, labels = balanced_images(n_train + n_test, seed)
    x = features(model.eval(), images)
    accuracy = {factor: linear_probe(x, labels[factor], n_train) for factor in factors}
    images, labels = balanced_images(n_train + n_test, seed + 1, KINDS)
    return accuracy | {TEN: linear_probe(features(model, images), labels["object"], n_train)}


@torch.no_grad()
def zero_shot(model, n: int = 2000, seed: int = 2) -> dict[str, float]:
    """Accuracy of each factor from text on balanced images, of a CLIP whose image tower may be a ResNet."""
    images, labels = balanced_images(n, seed)
    x, tokenize = F.normalize(torch.from_numpy(features(model.eval(), images)), dim=-1), tokenizer()
    accuracy = {}
    for factor in FACTORS:
        texts = [model.encode_text(tokenize(prompts(factor, value)), normalize=True).mean(0) for value in values(factor)]
        guess, shown = (x @ F.normalize(torch.stack(texts), dim=-1).T).argmax(1).numpy(), labels[factor] != HIDDEN
        accuracy[factor] = (guess == labels[factor])[shown].mean().item()
    return accuracy


def main():
    torch.set_num_threads(1)
    print("| | " + " | ".join([TEN, *FACTORS]) + " |")
    for name in BUILDERS:
        try:
            trained = load(name)
        except FileNotFoundError as error:
            print(error)
            continue
        torch.manual_seed(0)
        for kind, model in (("", trained), (", untrained", BUILDERS[name]())):
            found = probe(model)
            print(f"| `{name}`{kind} | " + " | ".join(f"{found[factor]:.3f}" for factor in (TEN, *FACTORS)) + " |", flush=True)
        if name == "clip_resnet":
            print("zero-shot:", {factor: round(share, 3) for factor, share in zero_shot(trained).items()})


if __name__ == "__main__":
    main()
