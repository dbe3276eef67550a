"""Weights survive the way through a file in each public format, written here by stand-ins for the original programs."""

import pickle
from dataclasses import replace

import generator_files
import numpy as np
import pytest
import torch
from generator_files import persistent_dump, rosinality
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import interp_utils as iu
from interp_utils.rosetta import convert_nvidia_pickle, load_weights, read_nvidia_pickle, read_torch_file
from interp_utils.rosetta.generators import BigGAN, BigGANConfig, StyleGAN2, StyleGAN2Config, StyleGANXL, StyleGANXLConfig

BUILDERS = {
    "big": lambda: BigGAN(BigGANConfig(blocks=((4, 2, True), (2, 1, False)), attention=1, width=8, d_z=6, kinds=5)),
    "style": lambda: StyleGAN2(StyleGAN2Config(channels=(8, 8, 6), d=6, mapping_layers=3)),
    "xl": lambda: StyleGANXL(StyleGANXLConfig((16,), 4, 4, d_z=5, d=6, kinds=4, d_class=7, most_channels=8, base=256)),
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def build(name, filled=True):
    model = BUILDERS[name]().eval()
    if filled:
        for key, value in model.state_dict().items():
            if not key.endswith("_filter"):
                value.normal_()
    return model


@pytest.fixture
def nvidia():
    with generator_files.nvidia() as names:
        yield names


def assert_equal(found, expected):
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) and found[name].dtype == expected[name].dtype for name in expected)


class Odd(nn.Module):
    """Parts whose storage is not plain: views, halves, integers, shared and absent weights, a buffer that is not saved."""

    def __init__(self):
        super().__init__()
        self.turned = nn.Parameter(torch.randn(3, 4).T)
        self.part = nn.Parameter(torch.randn(10)[2:7], requires_grad=False)
        self.tied = self.turned
        self.register_buffer("halves", torch.randn(3).half())
        self.register_buffer("steps", torch.tensor(7))
        self.register_buffer("absent", None)
        self.register_buffer("passing", torch.ones(2), persistent=False)
        self.body = nn.ModuleList([nn.Embedding(2, 3), nn.BatchNorm2d(2)])
        self.gone = None


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_nvidia_pickles_give_their_state_dicts(nvidia, protocol, tmp_path):
    first, second = Odd(), build("style")
    extra = nvidia.EasyDict(class_name="training.dataset.ImageFolderDataset", path="/data")
    content = {"G": first, "D": None, "G_ema": second, "training_set_kwargs": extra, "augment_pipe": None, "progress": 3.5}
    path = tmp_path / "network.pkl"
    path.write_bytes(persistent_dump(content, nvidia, protocol, dict if protocol % 2 else nvidia.EasyDict))
    found = iu.rosetta.read_nvidia_pickle(path)
    assert list(found) == ["G", "G_ema"]
    assert_equal(found["G"], first.state_dict())
    assert "passing" not in found["G"] and list(found["G_ema"]) == list(second.state_dict())
    assert_equal(found["G_ema"], second.state_dict())
    assert list(read_nvidia_pickle(path, ["G"])) == ["G"]
    with pytest.raises(pickle.UnpicklingError, match=r"no network D; it holds \{G: torch_utils.*D: NoneType"):
        read_nvidia_pickle(path, ["D"])


@pytest.mark.parametrize("name", ["style", "xl"])
def test_nvidia_pickles_load_strictly_and_are_converted_once(nvidia, name, tmp_path):
    model, path = build(name), tmp_path / "net.pkl"
    path.write_bytes(persistent_dump({"G": None, "G_ema": model}, nvidia, 4))
    copy = build(name, filled=False)
    load_weights(copy, path)
    assert_equal(copy.state_dict(), model.state_dict())
    converted = tmp_path / "net.G_ema.safetensors"
    assert_equal(load_file(converted), model.state_dict())
    before = converted.stat().st_mtime_ns
    assert convert_nvidia_pickle(path) == converted and converted.stat().st_mtime_ns == before
    other = build(name)
    path.write_bytes(persistent_dump({"G_ema": other}, nvidia, 4))
    load_weights(copy, path)  # another pickle of the same name is converted anew
    assert_equal(copy.state_dict(), other.state_dict())
    elsewhere = convert_nvidia_pickle(path, tmp_path / "elsewhere.safetensors")
    with safe_open(elsewhere, "pt") as file:
        assert len(file.metadata()["source_sha256"]) == 64
    assert sorted(p.name for p in tmp_path.iterdir()) == ["elsewhere.safetensors", "net.G_ema.safetensors", "net.pkl"]


LIMITED = ("conv0", "conv1", "torgb")


def limited(model, limit):
    """What NVIDIA's layers keep beside their weights when they cut activations off."""
    for name, part in model.named_modules():
        if name.endswith(LIMITED) or name.rpartition(".")[2][:1] == "L":
            part.conv_clamp = limit
            if hasattr(part, "magnitude_ema"):
                part.magnitude_ema.fill_(1)  # a mean square is not negative
    return model


@pytest.mark.parametrize("limit", [256, 0.5, None])
@pytest.mark.parametrize("name, latents", [("style", (torch.ones(2, 6),)), ("xl", (torch.ones(2, 5), torch.eye(4)[:2]))])
def test_activations_are_cut_off_where_the_pickle_says(nvidia, name, latents, limit, tmp_path):
    model, path = limited(build(name), limit), tmp_path / "net.pkl"
    path.write_bytes(persistent_dump({"G_ema": model}, nvidia, 4))
    copy = build(name, filled=False)
    load_weights(copy, path)
    assert copy.synthesis.clamp == limit
    if name == "style" and limit is not None:
        for part_name, part in model.named_modules():
            if part_name.endswith(LIMITED):
                part.register_forward_hook(lambda module, inputs, output: output.clamp(-limit, limit))
    elif name == "xl":
        model.synthesis.clamp = limit
    image = copy(*latents)
    torch.testing.assert_close(image, model(*latents))
    copy.synthesis.clamp = None
    assert torch.allclose(image, copy(*latents)) == (limit != 0.5)


def test_a_pickle_whose_layers_have_different_limits_is_refused(nvidia, tmp_path):
    model, path = limited(build("style"), 256), tmp_path / "net.pkl"
    model.synthesis.b8.conv0.conv_clamp = 2
    path.write_bytes(persistent_dump({"G_ema": model}, nvidia, 4))
    with pytest.raises(pickle.UnpicklingError, match="different limits"):
        load_weights(build("style"), path)


def test_an_earlier_conversion_that_does_not_know_the_limit_is_made_anew(nvidia, tmp_path):
    model, path = limited(build("style"), 2.0), tmp_path / "net.pkl"
    path.write_bytes(persistent_dump({"G_ema": model}, nvidia, 4))
    converted = convert_nvidia_pickle(path)
    with safe_open(converted, "pt") as file:
        about = {key: file.metadata()[key] for key in ("source", "source_sha256")}
    save_file(load_file(converted), converted, about)
    copy = build("style", filled=False)
    load_weights(copy, path)
    assert copy.synthesis.clamp == 2.0


def test_a_generator_with_classes_takes_nvidias_single_mean_style(nvidia, tmp_path):
    model, copy = (StyleGAN2(replace(build("style").config, kinds=3)).eval() for _ in range(2))
    model.mapping.w_avg, path = torch.randn(6), tmp_path / "net.pkl"
    path.write_bytes(persistent_dump({"G_ema": model}, nvidia, 4))
    load_weights(copy, path)
    z, c = torch.randn(3, 6), torch.eye(3)
    expected = model.mapping.w_avg + 0.5 * (copy.mapping(z, c)[:, 0] - model.mapping.w_avg)
    torch.testing.assert_close(copy.mapping(z, c, psi=0.5)[:, 0], expected)


def test_a_pickle_without_an_expected_weight_is_refused_and_leaves_nothing(nvidia, tmp_path):
    model, path = build("xl"), tmp_path / "net.pkl"
    layer = model.synthesis.plan[0].name
    del getattr(model.synthesis, layer)._buffers["magnitude_ema"]
    path.write_bytes(persistent_dump({"G_ema": model}, nvidia, 4))
    with pytest.raises(pickle.UnpicklingError, match=f"lacks 1 weights, such as synthesis.{layer}.magnitude_ema"):
        load_weights(build("xl"), path)
    assert [p.name for p in tmp_path.iterdir()] == ["net.pkl"]


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize("name", BUILDERS)
def test_files_of_torch_save_load_strictly(name, modern, tmp_path):
    model, path = build(name), tmp_path / "pytorch_model.bin"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=modern)
    copy = build(name, filled=False)
    load_weights(copy, path)
    assert_equal(copy.state_dict(), model.state_dict())
    state = dict(model.state_dict())
    dropped = list(state)[3]
    del state[dropped]
    torch.save(state, path)
    with pytest.raises(RuntimeError, match=f'Missing key.*"{dropped}"'):
        load_weights(copy, path)
    torch.save(list(state), path)
    with pytest.raises(ValueError, match="holds list, not a dict"):
        load_weights(copy, path)


def test_rosinalitys_files_load_into_a_style_gan2(tmp_path):
    model, copy, path = build("style"), build("style", filled=False), tmp_path / "stylegan2-cat-config-f.pt"
    content = rosinality(model)
    torch.save(content, path, _use_new_zipfile_serialization=False)
    load_weights(copy, path)
    assert_equal(copy.state_dict(), model.state_dict())
    del content["latent_avg"]
    torch.save(content, path)
    load_weights(copy, path)
    z = torch.randn(20_000, 6)
    torch.testing.assert_close(copy.mapping.w_avg, model.mapping(z)[:, 0].mean(0), atol=0.05, rtol=0.05)
    content["g_ema"]["convs.2.conv.weight"] = content["g_ema"]["convs.2.conv.weight"][:, :3]
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"convs.2.conv.weight has shape \[1, 3, 8, 3, 3\], but our synthesis.b16.conv0.weight"):
        load_weights(copy, path)
    del content["g_ema"]["noises.noise_1"]
    torch.save(content, path)
    with pytest.raises(ValueError, match="lacks noises.noise_1, which is our synthesis.b8.conv0.noise_const"):
        load_weights(copy, path)


def tensorflow(model, nvidia):
    """The same as the networks of a TensorFlow file: dense weights [in, out], convolutions [rows, columns, in, out]."""
    ours = {name: value.numpy() for name, value in model.state_dict().items()}

    def network(variables, **components):
        made = nvidia.Network()
        made.__dict__ = {
            "version": 4, "name": "G", "static_kwargs": nvidia.EasyDict(resolution=16), "build_module_src": "raise SystemError",
            "build_func_name": "G_main", "variables": variables, "components": nvidia.EasyDict(components),
        }  # fmt: skip
        return made

    mapping = []
    for k in range(3):
        mapping.append((f"Dense{k}/weight", np.ascontiguousarray(ours[f"mapping.fc{k}.weight"].T)))
        mapping.append((f"Dense{k}/bias", ours[f"mapping.fc{k}.bias"]))
    synthesis = [("4x4/Const/const", ours["synthesis.b4.const"][None])]
    names = {"b4.conv1": "4x4/Conv", "b8.conv0": "8x8/Conv0_up", "b8.conv1": "8x8/Conv1", "b16.conv0": "16x16/Conv0_up",
             "b16.conv1": "16x16/Conv1", "b4.torgb": "4x4/ToRGB", "b8.torgb": "8x8/ToRGB", "b16.torgb": "16x16/ToRGB"}  # fmt: skip
    for k, (here, there) in enumerate(names.items()):
        weight = ours[f"synthesis.{here}.weight"]
        weight = np.transpose(weight[:, :, ::-1, ::-1] if there.endswith("_up") else weight, (2, 3, 1, 0))
        synthesis += [(f"{there}/weight", weight), (f"{there}/bias", ours[f"synthesis.{here}.bias"])]
        synthesis.append((f"{there}/mod_weight", ours[f"synthesis.{here}.affine.weight"].T))
        synthesis.append((f"{there}/mod_bias", ours[f"synthesis.{here}.affine.bias"] - 1))
        if "ToRGB" not in there:
            synthesis.append((f"{there}/noise_strength", np.float32(ours[f"synthesis.{here}.noise_strength"])))
            synthesis.append((f"noise{k}", ours[f"synthesis.{here}.noise_const"][None, None]))
    parts = {"mapping": network(mapping), "synthesis": network(synthesis)}
    return network([("dlatent_avg", ours["mapping.w_avg"]), ("lod", np.float32(0))], **parts)


@pytest.mark.parametrize("protocol", [3, 4])
def test_tensorflow_files_load_into_a_style_gan2(nvidia, protocol, tmp_path):
    model, path = build("style"), tmp_path / "stylegan2-cat-config-f.pkl"
    networks = (tensorflow(build("style"), nvidia), nvidia.Network(), tensorflow(model, nvidia))
    path.write_bytes(pickle.dumps(networks, protocol))
    found = read_nvidia_pickle(path)
    assert list(found) == ["G", "G_ema"] and not torch.equal(found["G"]["dlatent_avg"], found["G_ema"]["dlatent_avg"])
    copy = build("style", filled=False)
    load_weights(copy, path)
    state = copy.state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(state[name], value)


def test_wrong_kinds_of_files_are_told_apart(tmp_path):
    path = tmp_path / "file.pkl"
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(pickle.UnpicklingError, match="read_torch_file"):
        read_nvidia_pickle(path)
    assert list(read_torch_file(path)) == ["weight"]
    torch.save({"model": build("style")}, path)
    with pytest.raises(pickle.UnpicklingError, match="file.pkl cannot be read as a file of torch.save with tensors alone"):
        read_torch_file(path)
    path.write_bytes(pickle.dumps({"G_ema": 3, "D": None}))
    with pytest.raises(pickle.UnpicklingError, match="holds no network"):
        read_nvidia_pickle(path)
    for content in (b"", b"\x80\x04", b"no pickle at all"):
        path.write_bytes(content)
        for read in (read_nvidia_pickle, read_torch_file):
            with pytest.raises(pickle.UnpicklingError, match="file.pkl cannot be read as"):
                read(path)
