"""A judge of photographs, from a tiny detector with random weights and from boxes made up by the test."""

import json

import pytest
import torch
from PIL import Image

from interp_utils.neurons import object_detector

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def detector_folder(tmp_path_factory):
    """An OWL-ViT of 32 pixels."""
    from tokenizers import pre_tokenizers

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("detector")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: k for k, token in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    size = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    config = transformers.OwlViTConfig(
        text_config={**size, "vocab_size": len(words), "max_position_embeddings": 64, "bos_token_id": 512, "eos_token_id": 513},
        vision_config={**size, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    transformers.OwlViTForObjectDetection(config).save_pretrained(folder)
    transformers.OwlViTProcessor(
        transformers.OwlViTImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False),
        transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=64, pad_token="!"),
    ).save_pretrained(folder)
    return str(folder)


def test_what_counts_is_what_the_detector_says(detector_folder):
    images = [Image.effect_noise((40, 30), 80 + 20 * k).convert("RGB") for k in range(3)]
    detect = transformers.pipeline("zero-shot-object-detection", model=detector_folder, device="cpu")
    for threshold in (0.0, 1.0):
        found = [detect(each, candidate_labels=["a photo of a dog", "a photo of a ship"], threshold=threshold) for each in images]
        expected = [{box["label"] for box in boxes} == {"a photo of a dog"} for boxes in found]
        assert object_detector(detector_folder, threshold, "cpu")(images, "dog", "ship") == expected
    assert expected == [False] * 3, "where nothing is sure enough, nothing is seen"


@pytest.mark.parametrize(
    ("boxes", "verdict"),
    [(["dog"], True), (["dog", "dog"], True), (["ship"], False), (["dog", "ship"], False), ([], False)],
)
def test_the_true_object_and_no_box_of_the_wrong_one(monkeypatch, boxes, verdict):
    def pipeline(task, **_):
        return lambda image, candidate_labels, threshold: [{"label": f"a photo of a {name}"} for name in boxes]

    monkeypatch.setattr("transformers.pipeline", pipeline)
    assert object_detector("any", device="cpu")([Image.new("L", (8, 8))], "dog", "ship") == [verdict]


def test_a_missing_detector_is_explained(tmp_path):
    with pytest.raises(OSError, match="cannot load the object detector"):
        object_detector(str(tmp_path), device="cpu")
