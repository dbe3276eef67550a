import io
import pickle
import re

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from PIL import Image
from small_clips import noise, tiny_model

import interp_utils as iu
from interp_utils.sandbox import clip as sandbox_clip


def test_sizes_of_a_real_model():
    clip = iu.Clip(open_clip.create_model("ViT-B-32-quickgelu", pretrained=None))
    sizes = (clip.n_layers, clip.n_heads, clip.d_model, clip.d_mlp, clip.d_embed, clip.grid, clip.device.type)
    assert sizes == (12, 12, 768, 3072, 512, (7, 7), "cpu")


@pytest.mark.parametrize("wrong", [lambda x: (x + 2) / 4 * 255, lambda x: x * 127.5, lambda x: (x + 2) / 4 * 65535])
def test_pixels_that_nobody_normalised_are_refused(sandbox, wrong):
    pixels = torch.stack([sandbox.preprocess(iu.sandbox.render(k).image) for k in range(2)])
    sandbox.pixels(pixels * 3)  # brighter than any photo may be
    for use in (sandbox.pixels, sandbox.encode_image, lambda each: iu.heads.direct_effects(sandbox, each)):
        with pytest.raises(ValueError, match=r"must be normalised as clip.preprocess does it, to about -2..2, got"):
            use(wrong(pixels))


@pytest.mark.parametrize(
    "wrong", [np.zeros((1, 3, 64, 64), np.float32), Image.new("RGB", (64, 64)), [torch.zeros(3, 64, 64)], None]
)
def test_arrays_and_pil_images_are_refused_with_the_way_to_make_them_pixels(sandbox, wrong):
    with pytest.raises(TypeError, match=r"need a tensor of pixels \[B, 3, 64, 64\], got .*clip.preprocess\(images.read_image"):
        sandbox.encode_image(wrong)


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory):
    """A ViT-B-32 with random weights, and what the real loading code makes of the checkpoint of its halves."""
    source, path = (
        open_clip.create_model("ViT-B-32", pretrained=None),
        tmp_path_factory.mktemp("hub") / "open_clip_pytorch_model.bin",
    )
    torch.save({name: value.half() for name, value in source.state_dict().items()}, path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_clip.factory, "download_pretrained", lambda *args, **kwargs: str(path))
        return source, iu.load_clip("ViT-B-32/laion2b_s34b_b79k", device="cpu")


def test_preprocess_reads_images_before_it_resizes_them(sandbox, downloaded):
    """A palette holds names of colours, not colours: what lies between two of them means nothing."""
    clip = downloaded[1]
    noise = np.random.default_rng(0).integers(0, 2, (70, 90)).astype(bool)
    sideways = Image.Exif()
    sideways[0x0112] = 6
    for model in (clip, sandbox):
        assert torch.equal(model.preprocess(Image.fromarray(noise)), model.preprocess(Image.fromarray(noise).convert("RGB")))
        file = io.BytesIO()
        Image.fromarray(np.rot90(noise).copy()).save(file, "PNG", exif=sideways)
        assert torch.equal(model.preprocess(file), model.preprocess(Image.fromarray(noise).convert("RGB")))
        assert pickle.loads(pickle.dumps(model.preprocess))(file).shape == (3, *model.image_size)


def test_encode_image_is_the_models_own(tiny):
    pixels = noise(tiny)
    assert torch.equal(tiny.encode_image(pixels), tiny.model.encode_image(pixels))


def test_text_features_are_unit_and_averaged_over_templates(tiny):
    plain = tiny.encode_text(["a dog", "a cat"])
    torch.testing.assert_close(plain.norm(dim=1), torch.ones(2))
    templates = ["a photo of a {}.", lambda c: f"a drawing of {c}"]
    both = tiny.encode_text(["dog", "cat"], templates)
    first = tiny.encode_text(["a photo of a dog.", "a drawing of dog"]).mean(0)
    torch.testing.assert_close(both[0], first / first.norm())
    many = tiny.encode_text([f"text {k}" for k in range(300)])
    torch.testing.assert_close(many[299:], tiny.encode_text(["text 299"]))


@pytest.mark.parametrize("texts", [[], "a dog", ["a dog", "  "], [None]])
def test_bad_texts(tiny, texts):
    with pytest.raises(ValueError, match="at least one text"):
        tiny.encode_text(texts)


@pytest.mark.parametrize(
    "vision,reason",
    [
        ({"pool_type": "none"}, "pools by 'none'"),
        ({"layers": (1, 1, 1, 1), "width": 16, "head_width": 64}, "a ResNet, of which only the attention pool"),
        ({"timm_model_name": "resnet18", "timm_pool": "avg", "timm_proj": "linear"}, "timm's ResNet"),
        ({"qk_norm": True}, "attention is custom"),
    ],
)
def test_towers_that_are_not_covered_say_why(vision, reason):
    with pytest.raises(NotImplementedError, match=reason):
        iu.Clip(tiny_model(**vision))


def test_sizes_of_a_tower_of_timm():
    vision = open_clip.get_model_config("ViT-B-16-SigLIP")["vision_cfg"]
    clip = iu.Clip(CLIP(768, vision, CLIPTextCfg(width=16, heads=1, layers=1)).eval(), check=False)
    sizes = (clip.n_layers, clip.n_heads, clip.d_head, clip.d_model, clip.d_mlp, clip.d_embed, clip.grid, clip.n_prefix)
    assert sizes == (12, 12, 64, 768, 3072, 768, (14, 14), 0)


def test_patch_dropout_in_training_mode_is_refused():
    model = CLIP(
        embed_dim=8,
        vision_cfg=CLIPVisionCfg(layers=1, width=16, head_width=8, patch_size=8, image_size=16, patch_dropout=0.5),
        text_cfg=CLIPTextCfg(width=16, heads=1, layers=1),
    )
    with pytest.raises(NotImplementedError, match="call model.eval"):
        iu.Clip(model.train())
    iu.Clip(model.eval())


def test_unknown_names_and_tags():
    with pytest.raises(ValueError, match="unknown model 'ViT-B-33/openai'.*ViT-B-32"):
        iu.load_clip("ViT-B-33/openai")
    with pytest.raises(ValueError, match="unknown weights 'laion9b' for ViT-B-32; choose one of .*laion2b_s34b_b79k"):
        iu.load_clip("ViT-B-32/laion9b")
    with pytest.raises(ValueError, match="unknown weights ''"):
        iu.load_clip("ViT-B-32")


def test_what_an_error_advises_can_be_loaded():
    from interp_utils.loading import checked_name

    advised = 0
    for model, tag in open_clip.list_pretrained():
        try:
            assert checked_name(f"{model}/{tag}") == (model, tag)
        except ValueError as error:
            assert "trained with QuickGELU" in str(error)
            advice = re.search("load '(.+)/(.+)'$", str(error))
            if advice:
                assert checked_name("/".join(advice.groups())) == advice.groups() != (model, tag)
                advised += 1
    assert advised > 10
    assert checked_name("roberta-ViT-B-32/laion2b_s12b_b32k")
    with pytest.raises(ValueError, match=r"OpenCLIP has no weights for ViT-M-16; .* open_clip.list_pretrained\(\)"):
        iu.load_clip("ViT-M-16/openai")


@pytest.mark.parametrize("pixels", [{"pixel_values": None}, [[0.0]], None])
def test_what_is_no_tensor_is_named(tiny, pixels):
    for call in (tiny.encode_image, lambda x: iu.heads.direct_effects(tiny, x), lambda x: tiny.vectors(x)):
        with pytest.raises(TypeError, match=rf"tensor.*, got {type(pixels).__name__}"):
            call(pixels)


def test_vectors_of_another_model_are_refused_wherever_they_go(tiny):
    wrong, images, texts = torch.randn(3, 7), [(image, 0) for image in noise(tiny, 4)], ["a", "b", "c"]
    order = iu.neurons.second_order(tiny, 0).fit(images, 2)
    span = iu.heads.textspan(torch.randn(5, 24), torch.randn(3, 24), texts, 2)
    coded = iu.neurons.sparse_texts(order.directions, torch.randn(3, 24), texts, 2)
    means = iu.neurons.token_means(tiny, images, 0)
    for call in (
        lambda: iu.heads.direct_effects(tiny, noise(tiny)).scores(wrong),
        lambda: iu.heads.token_maps(iu.heads.direct_effects(tiny, noise(tiny)), wrong),
        lambda: iu.heads.accuracy_under(tiny, images, wrong, {"none": iu.heads.Ablation()}),
        lambda: iu.heads.textspan(torch.randn(5, 24), wrong, texts),
        lambda: iu.heads.top_images(tiny, images, {(0, 0): span}, wrong),
        lambda: iu.heads.reconstruction_accuracy(tiny, images, wrong, {"pool": {(0, 0): span}}, [1]),
        lambda: iu.segmentation.token_decomposition(tiny, wrong),
        lambda: iu.segmentation.for_predicted_class(tiny, iu.explainers.lrp, wrong),
        lambda: iu.neurons.ablation_curves([order], images, wrong),
        lambda: iu.neurons.indirect_ablation(tiny, images, wrong, 0, means),
        lambda: iu.neurons.text_ablation(order, images, wrong, {"pool": coded}, [1]),
        lambda: iu.neurons.segmenter([order], wrong, 2),
        lambda: iu.neurons.sparse_texts(order.directions, wrong, texts, 2),
        lambda: iu.explainers.lrp(tiny, noise(tiny, 3), wrong),
    ):
        with pytest.raises(ValueError, match=r"need .*got .*\[3, 7\]"):
            call()


def test_wrong_activation_names_the_right_model():
    with pytest.raises(ValueError, match="trained with QuickGELU.*load 'ViT-B-32-quickgelu/openai'"):
        iu.load_clip("ViT-B-32/openai")


@pytest.mark.parametrize(
    "name", ["ViT-B-32-quickgelu/openai", "ViT-B-16/laion2b_s34b_b88k", "ViT-L-14/laion2b_s32b_b82k", "ViT-H-14/laion2b_s32b_b79k"]
)
def test_names_of_the_thesis_are_accepted(name):
    from interp_utils.loading import checked_name

    assert "/".join(checked_name(name)) == name


def test_real_loading_code_reads_a_local_checkpoint(downloaded):
    source, clip = downloaded
    torch.testing.assert_close(clip.visual.proj, source.visual.proj.half().float())
    assert not clip.model.training and not clip.visual.proj.requires_grad
    assert clip.encode_text(["a dog"]).shape == (1, 512)


def test_sandbox_loads_with_zero_rows_for_unknown_tokens(sandbox):
    table = sandbox.model.token_embedding.weight
    assert table.shape == (49408, sandbox_clip.TEXT_WIDTH)
    used = (table.abs().sum(1) > 0).sum().item()
    assert 150 < used < 2000
    assert sandbox.n_layers >= 8 and sandbox.n_heads >= 4


def test_sandbox_weights_round_trip(tmp_path):
    model = sandbox_clip.build()
    ids = torch.tensor([3, 5, 49407])
    sandbox_clip.save(model, ids, tmp_path / "clip.safetensors")
    again = sandbox_clip.load(str(tmp_path / "clip.safetensors"))
    torch.testing.assert_close(again.visual.proj, model.visual.proj.half().float())
    torch.testing.assert_close(again.token_embedding.weight[ids], model.token_embedding.weight[ids].half().float())
    assert again.token_embedding.weight[4].abs().sum() == 0


def test_bad_sandbox_weight_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="train_clip"):
        sandbox_clip.load(tmp_path / "none.safetensors")
    path = tmp_path / "clip.safetensors"
    sandbox_clip.save(sandbox_clip.build(), torch.tensor([1]), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        sandbox_clip.load(path)
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="does not hold the weights"):
        sandbox_clip.load(path)
