"""The adversarial generator of chapter 4 draws what is asked for, its recipe goes on where it stopped, wrong files are refused."""

import pytest
import torch
from safetensors.torch import save_file

import interp_utils as iu
from interp_utils.sandbox import adversarial, known
from interp_utils.sandbox.adversarial import train
from interp_utils.sandbox.known import reader, report
from interp_utils.sandbox.viewers import BUILDERS


@pytest.fixture(scope="module")
def drawn():
    generator = iu.rosetta.load_unit_model("sandbox/big_gan", device="cpu")
    kinds = torch.arange(200) % len(known.KINDS)
    z = known.sample(200, torch.Generator().manual_seed(1))
    with torch.no_grad():
        return generator(z, train.one_hot(kinds))[0], kinds


def test_it_draws_the_kind_that_is_asked_for(sandbox, drawn):
    images, kinds = drawn
    assert (report.told(sandbox, images) == kinds).float().mean() > 0.6
    assert (reader.load_reader().read(images).object.argmax(1) == kinds).float().mean() > 0.6
    assert torch.equal(report.told(sandbox, images) == kinds, report.named(sandbox, images, kinds, known.KINDS))


def test_images_of_a_kind_differ(drawn):
    images, kinds = drawn
    for kind in range(len(known.KINDS)):
        few = images[kinds == kind].flatten(1)
        assert torch.pdist(few).min() > 0.1 * torch.pdist(few).mean()


def test_real_images_hold_one_or_two_whole_objects():
    pictures = train.stock(40)
    assert pictures.shape == (10, 4, 3, 64, 64) and pictures.dtype == torch.uint8
    read = reader.load_reader().read(pictures.flatten(0, 1) / 255)
    assert (read.object.argmax(1) == torch.arange(10).repeat_interleave(4)).float().mean() > 0.9
    assert (read.count.argmax(1) > 0).all()


def test_heads_see_the_kind_and_sameness():
    torch.manual_seed(0)
    discriminator = train.Discriminator(BUILDERS["resnet"]())
    images, c = torch.rand(4, 3, 64, 64) * 2 - 1, train.one_hot(torch.tensor([0, 0, 1, 1]))
    scores = discriminator(images, c)
    assert scores.shape == (2, 80)
    assert not torch.allclose(discriminator(images, c.flip(0)), scores)
    assert not torch.allclose(discriminator(images[[0, 2, 1, 3]], c), scores), "who is beside whom"
    assert train.apart(images[[0, 0]]) == 0 < train.apart(images)
    assert not any(name.startswith("eyes") for name in discriminator.state_dict())


def test_first_weights_tell_latents_and_classes_apart():
    generator = train.seeded().eval()
    z, c = known.sample(2), torch.eye(10)[:2]
    one = generator(z[:1], c[:1])
    for other in (generator(z[1:], c[:1]), generator(z[:1], c[1:])):
        assert (other - one).abs().mean() > 0.05


def test_a_run_that_was_stopped_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "blank", lambda: known.KnownBigGAN((16, 12, 8, 8, 8)))
    monkeypatch.setattr(train, "set_rate", lambda *args, **options: None)
    torch.manual_seed(0)
    eyes, pictures = BUILDERS["resnet"](), train.stock(20)

    def trained(folder, lengths):
        (tmp_path / folder).mkdir()
        for steps in lengths:
            ready = train.run(eyes, tmp_path / folder, steps, size=4, pictures=pictures)
        return ready

    once, twice = trained("once", [4]), trained("twice", [2, 4])
    for a, b in zip(once.parameters(), twice.parameters()):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        assert (once.first.weight - train.seeded().first.weight).abs().max() > 1e-4


def test_wrong_weight_files_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(FileNotFoundError, match="no weights of big_gan.*interp_utils.sandbox.adversarial.train"):
        adversarial.load(path)
    save_file({"first.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(ValueError, match="does not hold the weights of big_gan"):
        adversarial.load(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        adversarial.load(path)
