"""Models by name: repositories, folders and checkpoints in their real formats, with random weights made here."""

import json
import os
import pickle
import re
import threading
import warnings
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import open_clip
import pytest
import torch
from families import family_clip
from open_clip.push_to_hf_hub import save_for_hf
from PIL import Image
from safetensors.torch import save_file

import interp_utils as iu

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"layers": 2, "width": 32, "head_width": 8, "patch_size": 8, "image_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
LOOK = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bilinear", "resize_mode": "squash"}


@pytest.fixture
def tiny_name(tmp_path):
    """A model of OpenCLIP's list small enough for tests: "tiny", and "tiny-quickgelu"."""
    for name, more in (("tiny", {}), ("tiny-quickgelu", {"quick_gelu": True})):
        (tmp_path / f"{name}.json").write_text(json.dumps({**TINY, **more}))
        open_clip.add_model_config(tmp_path / f"{name}.json")
    yield "tiny"
    del open_clip.factory._MODEL_CONFIG_PATHS[-2:]
    open_clip.factory._MODEL_CONFIGS.clear()
    open_clip.factory._rescan_model_configs()


@pytest.fixture
def source(tiny_name):
    torch.manual_seed(3)
    return open_clip.create_model(tiny_name).eval()


def same(clip: iu.Clip, source) -> bool:
    pixels = torch.randn(2, 3, *clip.image_size, generator=torch.Generator().manual_seed(0))
    return torch.allclose(clip.encode_image(pixels), source.encode_image(pixels), atol=1e-5)


def folder(source, path: Path, **config) -> Path:
    """What OpenCLIP writes for a repository."""
    open_clip.set_model_preprocess_cfg(source, {"size": [32, 32], **LOOK})
    no_tokenizer = SimpleNamespace(save_pretrained=lambda path: None)
    save_for_hf(source, no_tokenizer, {**TINY, **config}, save_directory=path, safe_serialization="both")
    return path


def test_a_folder_that_openclip_wrote(source, tmp_path):
    path = folder(source, tmp_path / "own")
    clip = iu.load_clip(f"local-dir:{path}", device="cpu")
    assert same(clip, source) and clip.name == f"local-dir:{path}"
    grey = clip.preprocess(Image.new("L", (50, 40), 255))
    torch.testing.assert_close(grey, torch.full((3, 32, 32), 2.0))  # (1 - 0.5) / 0.25: its own mean and std
    assert clip.encode_text(["a dog"]).shape == (1, 24)
    (path / "open_clip_model.safetensors").unlink()
    assert same(iu.load_clip(f"local-dir:{path}", device="cpu"), source)  # from the .bin beside it


def test_folders_that_are_none(source, tmp_path):
    path = folder(source, tmp_path / "own")
    with pytest.raises(ValueError, match=f"is a folder; .* load 'local-dir:{path}'"):
        iu.load_clip(str(path))
    with pytest.raises(ValueError, match="names nothing"):
        iu.load_clip("local-dir:")
    with pytest.raises(FileNotFoundError, match="local-dir:nowhere: cannot read open_clip_config.json"):
        iu.load_clip("local-dir:nowhere")
    for file in path.glob("open_clip_*model.*"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match="found no weights for local-dir:"):  # never random ones
        iu.load_clip(f"local-dir:{path}")
    (path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ValueError, match="must give embed_dim, vision_cfg and text_cfg"):
        iu.load_clip(f"local-dir:{path}")
    (path / "open_clip_config.json").write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        iu.load_clip(f"local-dir:{path}")


@pytest.mark.parametrize("kind", ["state dict.pt", "training.pt", "parallel.pt", "half.bin", "weights.safetensors"])
def test_checkpoints(kind, source, tmp_path):
    state, path = source.state_dict(), tmp_path / kind
    if kind == "weights.safetensors":
        save_file(state, path)
    elif kind == "training.pt":
        torch.save({"epoch": 3, "name": "own", "state_dict": state, "optimizer": {"lr": 0.1}}, path)
    elif kind == "parallel.pt":
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    elif kind == "half.bin":
        torch.save({key: value.half() for key, value in state.items()}, path)
    else:
        torch.save(state, path)
    clip = iu.load_clip(f"tiny/{path}", device="cpu")
    expected = source.half().float() if kind == "half.bin" else source
    assert same(clip, expected) and not clip.model.training


def test_a_checkpoint_in_the_current_folder(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(source.state_dict(), "own.pt")
    assert same(iu.load_clip("tiny/own.pt", device="cpu"), source)
    with pytest.raises(ValueError, match="is a file; say which model its weights belong to, as in 'ViT-B-32/own.pt'"):
        iu.load_clip("own.pt")
    with pytest.raises(FileNotFoundError, match=r"there is no file 'other.pt' \(current folder:"):
        iu.load_clip("tiny/other.pt")
    Path("notes.txt").write_text("")
    with pytest.raises(ValueError, match="must be a checkpoint that ends in .pt"):
        iu.load_clip("tiny/notes.txt")


def test_openais_weights_need_the_model_that_they_were_trained_with(source, tmp_path):
    sizes = {key: torch.tensor(1) for key in ("input_resolution", "context_length", "vocab_size")}
    torch.save({**source.half().state_dict(), **sizes}, tmp_path / "openai.pt")
    with pytest.raises(ValueError, match="OpenAI's by their names, were trained with QuickGELU.*load 'tiny-quickgelu/"):
        iu.load_clip(f"tiny/{tmp_path}/openai.pt")
    clip = iu.load_clip(f"tiny-quickgelu/{tmp_path}/openai.pt", device="cpu")
    quick = open_clip.create_model("tiny-quickgelu").eval()
    quick.load_state_dict(source.float().state_dict())
    assert same(clip, quick) and not same(clip, source)


class Evil:
    """A pickle that runs a command in whoever loads it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("where", ["file", "folder"])
@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_code_in_a_file_is_not_run(where, how, source, tmp_path):
    proof, path = tmp_path / "it ran", tmp_path / "evil.pt"
    if where == "folder":
        place = folder(source, tmp_path / "own")
        (place / "open_clip_model.safetensors").unlink()
        path = place / "open_clip_pytorch_model.bin"
    content = {"state_dict": {"weight": Evil(proof)}}
    path.write_bytes(pickle.dumps(content)) if how == "pickle" else torch.save(content, path)
    with pytest.raises(ValueError, match=f"{tmp_path}.* holds more than weights, and code from a file is never run here"):
        iu.load_clip(f"tiny/{path}" if where == "file" else f"local-dir:{path.parent}")
    assert not proof.exists()


class Scripted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return x * self.weight


def test_a_torchscript_archive_is_sent_elsewhere(tiny_name, tmp_path):
    torch.jit.script(Scripted()).save(tmp_path / "ViT-B-32.pt")
    with pytest.raises(ValueError, match="ViT-B-32.pt is a TorchScript archive.*'ViT-B-32-quickgelu/openai'"):
        iu.load_clip(f"tiny/{tmp_path}/ViT-B-32.pt")


@pytest.mark.parametrize("kind", ["other.pt", "cut.pt", "cut.safetensors", "list.pt", "nested.pt", "empty.pt", "text.pt", "zip.pt"])
def test_files_that_hold_no_such_weights(kind, source, tmp_path):
    state, path = source.state_dict(), tmp_path / kind
    if kind == "cut.safetensors":
        save_file(state, path)
    elif kind == "text.pt":
        path.write_text("no weights at all")
    elif kind == "zip.pt":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("a", "b")
    else:
        other = {key: value for key, value in state.items() if "proj" not in key}
        torch.save({"other.pt": other, "cut.pt": state, "list.pt": [1], "nested.pt": {"a": {"b": 1}}, "empty.pt": {}}[kind], path)
    if kind.startswith("cut"):
        path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ValueError, match=str(path)):
        iu.load_clip(f"tiny/{path}")


def test_what_openclip_fits_in_silence_is_said(tiny_name, tmp_path):
    config = {**TINY, "vision_cfg": {**TINY["vision_cfg"], "image_size": 48}}
    torch.save(open_clip.model.CLIP(**config).state_dict(), tmp_path / "larger.pt")
    with pytest.warns(UserWarning, match="other image or text sizes than tiny: .*visual.positional_embedding"):
        iu.load_clip(f"tiny/{tmp_path}/larger.pt")


def test_an_own_checkpoint_is_preprocessed_as_the_known_ones(source, tmp_path, monkeypatch):
    torch.save(source.state_dict(), tmp_path / "own.pt")
    known = {"a": {"mean": (0.5,) * 3, "std": (0.25,) * 3, "resize_mode": "squash"}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", known)
    clip = iu.load_clip(f"tiny/{tmp_path}/own.pt", device="cpu")
    torch.testing.assert_close(clip.preprocess(Image.new("RGB", (50, 40), "white")), torch.full((3, 32, 32), 2.0))
    known["b"] = {}
    with pytest.warns(UserWarning, match="differently normalised or resized.*set clip.preprocess"):
        iu.load_clip(f"tiny/{tmp_path}/own.pt", device="cpu")


@pytest.mark.parametrize(
    "name,reason", [("convnext_base/laion400m_s13b_b51k", "timm's ConvNeXt"), ("RN50-quickgelu/yfcc15m", "attention pool")],
)  # fmt: skip
def test_a_tower_that_is_not_covered_is_refused_before_anything_is_downloaded(name, reason, monkeypatch):
    for module, call in ((open_clip.factory, "download_pretrained"), (open_clip.factory, "download_pretrained_from_hf")):
        monkeypatch.setattr(module, call, lambda *args, **kwargs: pytest.fail("it downloads"))
    with pytest.raises(NotImplementedError, match=f"cannot decompose {name}: .*{reason}.*a ViT works, such as 'ViT-B-16/") as error:
        iu.load_clip(name)
    assert ("iu.towers.decompose" in str(error.value)) == (not name.startswith("convnext"))


def test_texts_that_need_transformers_say_so_before_anything_is_downloaded(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(open_clip.factory, "download_pretrained", lambda *args, **kwargs: pytest.fail("it downloads"))
    with pytest.raises(ImportError, match="pip install transformers"):
        iu.load_clip("roberta-ViT-B-32/laion2b_s12b_b32k")


def test_a_text_tower_of_hugging_face_reads_with_its_own_tokenizer(tmp_path):
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "dog": 4, "cat": 5}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special)
    bert = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 6}
    transformers.BertConfig(**bert).save_pretrained(tmp_path / "text")
    text = {
        "hf_model_name": str(tmp_path / "text"), "hf_tokenizer_name": str(tmp_path / "own"), "hf_model_pretrained": False,
        "context_length": 12, "hf_pooler_type": "mean_pooler", "hf_proj_type": "mlp",
    }  # fmt: skip
    model = open_clip.CustomTextCLIP(24, {**TINY["vision_cfg"]}, {**text}).eval()
    path = folder(model, tmp_path / "own", text_cfg=text)
    tokenizer.save_pretrained(path)
    clip = iu.load_clip(f"local-dir:{path}", device="cpu")
    assert clip.tokenizer(["dog cat"])[0, :4].tolist() == [1, 4, 5, 2] and clip.tokenizer(["a"]).shape == (1, 12)
    expected = model.encode_text(clip.tokenizer(["dog", "cat"]), normalize=True)
    torch.testing.assert_close(clip.encode_text(["dog", "cat"]), expected.detach())


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A server that answers as huggingface.co does for the files in tmp_path/hub/<org>/<repo>; gives what it was asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self, body: bool):
            org, repo, _, _, *file = self.path.strip("/").split("/")
            path = tmp_path / "hub" / org / repo / "/".join(file)
            asked.append((self.command, path.name))
            self.send_response(200 if path.is_file() else 404)
            content = path.read_bytes() if path.is_file() else b""
            headers = {"ETag": f'"{path.name}"', "X-Repo-Commit": "0" * 40} if content else {"X-Error-Code": "EntryNotFound"}
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def do_HEAD(self):
            self.answer(False)

        def do_GET(self):
            self.answer(True)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "ENDPOINT": address, "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": False,
    }.items():  # fmt: skip
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    yield asked
    server.shutdown()
    server.server_close()


def test_a_repository_says_its_size_once_and_is_read_from_the_cache_after(source, tmp_path, hub, capsys):
    path = folder(source, tmp_path / "hub" / "me" / "own")
    clip = iu.load_clip("hf-hub:me/own", device="cpu")
    said = capsys.readouterr().out
    size = (path / "open_clip_model.safetensors").stat().st_size / 1e9
    assert f"downloading open_clip_model.safetensors of me/own, {size:.2g} GB, once" in said
    assert same(clip, source) and ("GET", "open_clip_model.safetensors") in hub
    torch.testing.assert_close(clip.preprocess(Image.new("L", (50, 40), 255)), torch.full((3, 32, 32), 2.0))
    hub.clear()
    assert same(iu.load_clip("hf-hub:me/own", device="cpu"), source)
    assert "downloading" not in capsys.readouterr().out and ("GET", "open_clip_model.safetensors") not in hub


def test_of_a_repository_that_cannot_be_used_only_the_configuration_is_fetched(source, tmp_path, hub):
    folder(source, tmp_path / "hub" / "me" / "avg", vision_cfg={**TINY["vision_cfg"], "pool_type": "none"})
    with pytest.raises(NotImplementedError, match="hf-hub:me/avg: it pools by 'none'"):
        iu.load_clip("hf-hub:me/avg")
    assert {file for method, file in hub if method == "GET"} == {"open_clip_config.json"}
    with pytest.raises(FileNotFoundError, match="hf-hub:me/none: cannot read open_clip_config.json"):
        iu.load_clip("hf-hub:me/none")
    bare = folder(source, tmp_path / "hub" / "me" / "bare")
    for file in bare.glob("open_clip_*model.*"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match="found no weights for hf-hub:me/bare"):
        iu.load_clip("hf-hub:me/bare")


def test_without_a_network_nothing_wrong_is_said(monkeypatch, capsys):
    from interp_utils.loading import _say_size

    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    _say_size("me/own", ["weights.safetensors"])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16", "fp16"])
def test_precision_is_that_of_all_weights(precision, source, tmp_path):
    torch.save(source.state_dict(), tmp_path / "own.pt")
    clip = iu.load_clip(f"tiny/{tmp_path}/own.pt", "cpu", precision)
    expected = {"fp32": torch.float32, "fp64": torch.float64, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert {value.dtype for value in clip.model.parameters()} == {expected} == {clip.dtype}


def test_another_precision_is_refused():
    with pytest.raises(ValueError, match="precision must be one of fp32, fp64, bf16, fp16, got 'int8'"):
        iu.load_clip("sandbox", precision="int8")


def test_loading_a_known_model_warns_of_nothing(source, tmp_path):
    torch.save(source.state_dict(), tmp_path / "own.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        iu.load_clip(f"tiny/{tmp_path}/own.pt", "cpu")


def test_the_readmes_lines_for_siglip_and_for_an_own_checkpoint(source, tmp_path, monkeypatch):
    """As they stand there, on stand-ins: a small tower of SigLIP's family under its name, a small model's checkpoint."""
    blocks = re.findall(r"```python\n(.+?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.S)
    siglip, own = (next(block for block in blocks if name in block) for name in ("SigLIP2/webli", "epoch_10.pt"))
    assert len(siglip.splitlines()) == len(own.splitlines()) == 3
    stand_in = family_clip("SigLIP 2", double=False)
    parts = (stand_in.model, open_clip.image_transform(stand_in.image_size, False), stand_in.tokenizer)
    monkeypatch.setitem(iu.models._SHIPPED, "ViT-B-16-SigLIP2/webli", lambda: parts)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    torch.save({"epoch": 10, "state_dict": source.state_dict()}, "runs/epoch_10.pt")
    (tmp_path / "photos").mkdir()
    for k in range(5):
        iu.sandbox.render(k).image.save(tmp_path / "photos" / f"{k}.png")
    names = {"iu": iu, "image": iu.sandbox.render(0), "pool": iu.texts.Pool([f"text {k}" for k in range(12)], ["kind"] * 12)}
    exec(siglip, names)
    torch.testing.assert_close(names["fx"].total(), names["clip"].encode_image(names["fx"].pixels), rtol=1e-4, atol=1e-5)
    assert names["fx"].attention.shape[-1] == 16, "all tokens are patches"
    exec(own.replace("ViT-B-32/", "tiny/"), names)
    assert same(names["clip"], source) and names["so"].directions.shape == (names["clip"].d_mlp, 24)


def test_the_readme_counts_what_the_table_lists():
    root = Path(__file__).parents[1]
    rows = [line.split(" | ") for line in (root / "docs" / "models.md").read_text().splitlines() if line.endswith(" |")][1:]
    blocks = sum(row[2] != "-" for row in rows)
    assert f"works on {blocks} of OpenCLIP's {len(rows)} configurations" in (root / "README.md").read_text()
