"""The adversarial generator of chapter 4 draws what is asked for, and wrong files are refused."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import interp_utils as iu
from interp_utils.sandbox import adversarial
from interp_utils.sandbox.big_gan import BigGenerator


def test_big_generator_uses_every_chunk_and_the_class():
    torch.manual_seed(0)
    generator = BigGenerator(3, (16, 8, 8), chunk=4).eval()
    z, c = torch.randn(1, 12), torch.eye(3)[:1]
    image = generator(z, c)
    assert image.shape == (1, 3, 16, 16) and image.abs().max() <= 1
    for k in range(3):
        other = z.clone()
        other[:, 4 * k : 4 * k + 4] += 1
        assert not torch.equal(generator(other, c), image), f"chunk {k}"
    assert not torch.equal(generator(z, torch.eye(3)[1:2]), image)


def test_it_draws_the_kind_that_is_asked_for(sandbox):
    generator = iu.rosetta.load_unit_model("sandbox/big_gan", device="cpu")
    objects = [iu.sandbox.FACTORS["object"].index(kind) for kind in adversarial.KINDS]
    names = iu.sandbox.zero_shot_classifier(sandbox, "object")[objects]
    for kind in range(len(adversarial.KINDS)):
        images = generator(*generator.sample(20, seed=1, kind=kind))[0]
        seen = F.normalize(sandbox.encode_image(images.clamp(0, 1) * 4 - 2), dim=-1)
        assert ((seen @ names.T).argmax(1) == kind).float().mean() > 0.5, adversarial.KINDS[kind]


def test_wrong_weight_files_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(FileNotFoundError, match="no weights of big_gan.*git checkout"):
        adversarial.load(path)
    save_file({"first.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(ValueError, match="does not hold the weights of big_gan"):
        adversarial.load(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        adversarial.load(path)
