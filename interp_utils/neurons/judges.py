"""Who checks that an adversarial image shows the true object and not the wrong one; the thesis's author did it by hand."""

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from tqdm.auto import tqdm

from ..models import best_device
from .generate import explained

Judge = Callable[[Sequence[Image.Image], str, str], list[bool]]  # images, true, wrong -> which show true and not wrong
SHOWS = "shows"  # the entry of `image.info` where a painter that knows the truth leaves the names of what it drew


def sandbox_judge(images: Sequence[Image.Image], true: str, wrong: str) -> list[bool]:
    """The truth: the sandbox's painter writes on each image what it shows. Raises ValueError for an image that does not say."""
    if not all(SHOWS in image.info for image in images):
        raise ValueError("these images do not say what they show; pass a judge of photographs, such as object_detector()")
    return [true in image.info[SHOWS] and wrong not in image.info[SHOWS] for image in images]


def object_detector(model_id: str = "google/owlv2-base-patch16-ensemble", threshold: float = 0.2, device=None) -> Judge:
    """A judge of photographs: an open-vocabulary detector finds the true object, and no box that is rather the wrong one.

    model_id: a zero-shot object detector of the Hugging Face Hub, or its folder; the default takes 620 MB. threshold: the score
    from which a box counts. It shares no weights with the CLIP that is attacked, but was itself built on one: look at some of
    the images that it drops, and of those that it keeps.
    Raises ImportError without transformers, OSError for a model that cannot be loaded.
    """
    device = best_device() if device is None else torch.device(device)
    with explained(model_id, "object detector", "google/owlvit-base-patch32"):
        import transformers

        detect = transformers.pipeline("zero-shot-object-detection", model=model_id, trust_remote_code=False, device=device)

    def judge(images: Sequence[Image.Image], true: str, wrong: str) -> list[bool]:
        labels, verdicts = {f"a photo of a {name}": name for name in (true, wrong)}, []
        for image in tqdm(images, desc="judging", leave=False):
            boxes = detect(image.convert("RGB"), candidate_labels=list(labels), threshold=threshold)
            verdicts.append({labels[box["label"]] for box in boxes} == {true})  # a box bears the better of the two labels
        return verdicts

    return judge
