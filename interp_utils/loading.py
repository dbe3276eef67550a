"""Models by name: what OpenCLIP lists, repositories, folders and checkpoints. Weights alone are read, never code."""

import copy
import importlib.util
import json
import pickle
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory

import open_clip
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError
from open_clip.factory import load_state_dict
from open_clip.model import CLIP
from safetensors import SafetensorError
from safetensors.torch import save_file

from . import towers
from .images import read_image

SCHEMES = ("hf-hub:", "local-dir:")
FILES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # in a repository, the first that is there
_OPENAI_SIZES = {"input_resolution", "context_length", "vocab_size"}  # numbers among the weights of OpenAI's own files
_LOOK = ("mean", "std", "interpolation", "resize_mode")  # what a preprocess does, besides the size
_COVERED = "a ViT works, such as 'ViT-B-16/laion2b_s34b_b88k' or 'ViT-L-14/laion2b_s32b_b82k'"


def load(name: str) -> tuple:
    """Model, preprocess and tokenizer of a name: "<model>/<tag>", "<model>/<file>", "hf-hub:org/repo" or "local-dir:folder".

    Raises ValueError for names, files and folders that do not give a model, FileNotFoundError for those that are not there,
    NotImplementedError with the reason for a tower that is not covered, ImportError where its texts need transformers, both before
    anything large is downloaded.
    """
    model_name, weights = checked_name(name)
    config = _config(model_name)
    try:
        towers.describe_blocks(_empty(name, config))
    except towers.NotCovered as reason:
        raise NotImplementedError(f"cannot decompose {name}: {reason}; {_COVERED}") from None
    text = config["text_cfg"]
    if (text.get("hf_tokenizer_name") or text.get("hf_model_name")) and importlib.util.find_spec("transformers") is None:
        raise ImportError(f"the texts of {name} are read by Hugging Face's transformers: pip install transformers")
    if weights in open_clip.list_pretrained_tags_by_model(model_name):
        repository, _, file = open_clip.get_pretrained_cfg(model_name, weights).get("hf_hub", "").rpartition("/")
        _say_size(repository, [file] if file else _WEIGHTS)
        model, preprocess = _created(name, model_name, weights)
    elif weights:
        model, preprocess = _from_file(name, model_name, weights)
    else:
        if model_name.startswith("hf-hub:"):
            _say_size(model_name.removeprefix("hf-hub:"), _WEIGHTS)
        model, preprocess = _created(name, model_name, None)
    preprocess.transforms.insert(0, read_image)  # upright and in colour before anything is resized
    return model, preprocess, open_clip.get_tokenizer(model_name)


def checked_name(name: str, shipped: tuple[str, ...] = ()) -> tuple[str, str | None]:
    """The model's name as OpenCLIP takes it, and its tag or the path of its checkpoint (None for repositories and folders).

    shipped: further names, for the error. Raises what `load` raises for names.
    """
    if name.startswith(SCHEMES):
        if not name.partition(":")[2]:
            raise ValueError(f"{name!r} names nothing; write 'hf-hub:org/repo' or 'local-dir:folder'")
        return name, None
    model_name, _, weights = name.partition("/")
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    path = Path(weights).expanduser() if weights else None
    if weights not in tags and model_name in open_clip.list_models() and path and (path.exists() or path.suffix in FILES):
        if not path.is_file():
            raise FileNotFoundError(f"{name!r}: there is no file {str(path)!r} (current folder: {Path.cwd()})")
        if path.suffix not in FILES:
            raise ValueError(f"{str(path)!r} must be a checkpoint that ends in {', '.join(FILES)}")
        return model_name, str(path)
    _refuse_unknown(name, model_name, weights, tags, shipped)
    # A tag that says nothing was trained with what its model builds: OpenCLIP names the exceptions.
    if open_clip.get_pretrained_cfg(model_name, weights).get("quick_gelu"):
        _refuse_other_gelu(f"the weights {weights!r}", model_name, weights)
    return model_name, weights


def _refuse_unknown(name: str, model_name: str, tag: str, tags: list[str], shipped: tuple[str, ...]) -> None:
    if model_name not in (known := open_clip.list_models()):
        if Path(name).is_dir():
            raise ValueError(f"{name!r} is a folder; if OpenCLIP wrote it, with open_clip_config.json, load 'local-dir:{name}'")
        if Path(name).suffix in FILES or Path(name).exists():
            raise ValueError(f"{name!r} is a file; say which model its weights belong to, as in 'ViT-B-32/{name}'")
        near = ", ".join(get_close_matches(model_name, known, n=3, cutoff=0.4)) or "see open_clip.list_models()"
        first = f"{', '.join(map(repr, shipped))} or " if shipped else ""
        raise ValueError(
            f"unknown model {name!r}; use {first}'<OpenCLIP name>/<pretrained tag>', '<OpenCLIP name>/<checkpoint file>', "
            f"'hf-hub:org/repo' or 'local-dir:folder' (close: {near})"
        )
    if not tags:
        raise ValueError(
            f"OpenCLIP has no weights for {model_name}; for those it has, see open_clip.list_pretrained(), and for your own: "
            f"'{model_name}/<checkpoint file>'"
        )
    if tag not in tags:
        raise ValueError(f"unknown weights {tag!r} for {model_name}; choose one of {', '.join(tags)}, or a checkpoint file")


def _refuse_other_gelu(what: str, model_name: str, tag: str) -> None:
    if open_clip.get_model_config(model_name).get("quick_gelu"):
        return
    right = f"{model_name}-quickgelu"
    advice = f"load '{right}/{tag}'" if right in open_clip.list_models() else "OpenCLIP has no model that does"
    raise ValueError(f"{what} were trained with QuickGELU, which {model_name!r} does not build; {advice}")


def _config(model_name: str) -> dict:
    """What builds the model; of a repository, only this small file is fetched. Raises as `load` does."""
    try:
        config = open_clip.get_model_config(model_name)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{model_name}: open_clip_config.json is no JSON ({error})") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{model_name}: cannot read open_clip_config.json, by which OpenCLIP builds the model ({error}). The folder or "
            "repository must be one that OpenCLIP wrote (open_clip.push_to_hf_hub), and a repository needs the network or its cache"
        ) from error
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
        raise ValueError(f"{model_name}: open_clip_config.json must give embed_dim, vision_cfg and text_cfg under 'model_cfg'")
    return config


def _empty(name: str, config: dict) -> CLIP:
    """The model without any numbers, beside a small text tower."""
    config = copy.deepcopy(config)
    text = {"context_length": 4, "vocab_size": 4, "width": 8, "heads": 1, "layers": 1}
    try:
        with torch.device("meta"):
            return CLIP(config["embed_dim"], config["vision_cfg"], text, bool(config.get("quick_gelu"))).eval()
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"{name}: OpenCLIP {open_clip.__version__} cannot build its image tower ({error})") from error


def _say_size(repository: str, files: list[str] | tuple[str, ...]) -> None:
    """Print how much is about to be downloaded, where that is known; huggingface_hub shows the progress."""
    for file in files:
        if isinstance(try_to_load_from_cache(repository, file), str):
            return
        try:
            size = get_hf_file_metadata(hf_hub_url(repository, file), timeout=5).size
        except EntryNotFoundError:
            continue
        except Exception:  # whatever the network does: the download itself says what is wrong
            return
        if size:
            print(f"downloading {file} of {repository}, {size / 1e9:.2g} GB, once; it stays in Hugging Face's cache", flush=True)
        return


def _from_file(name: str, model_name: str, path: str) -> tuple:
    """Model and preprocess from a checkpoint: OpenCLIP's, of its training too, or OpenAI's weights."""
    with _readable(path, model_name):
        _refuse_archive(path)
        state = load_state_dict(path)
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{path} must hold a state dict, names of weights and their tensors, alone or as 'state_dict'")
    with TemporaryDirectory() as folder:
        source = path
        if _OPENAI_SIZES & state.keys():
            _refuse_other_gelu(f"the weights of {path}, OpenAI's by their names,", model_name, path)
            state = {key: value.contiguous() for key, value in state.items() if key not in _OPENAI_SIZES}
            source = str(Path(folder) / "weights.safetensors")
            save_file(state, source)
        model, preprocess = _created(path, model_name, source, **_look(path, model_name))
    fitted = [
        key for key, value in model.state_dict().items() if key in state and value.ndim and state[key].numel() != value.numel()
    ]
    if fitted:
        warnings.warn(
            f"{path} was trained with other image or text sizes than {model_name}: OpenCLIP interpolated {', '.join(fitted)}",
            stacklevel=4,
        )
    return model, preprocess


def _refuse_archive(path: str) -> None:
    """Raises RuntimeError for what `torch.jit.save` wrote, before anything looks inside, EOFError for other zip files."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            inside = {Path(each).name for each in file.namelist()}
        if "constants.pkl" in inside:
            raise RuntimeError("TorchScript")
        if "data.pkl" not in inside:
            raise EOFError("a zip file without weights")


def _look(path: str, model_name: str) -> dict:
    """What the preprocess of an own checkpoint does: the same as for the model's known weights, where they agree."""
    tags = [open_clip.get_pretrained_cfg(model_name, tag) for tag in open_clip.list_pretrained_tags_by_model(model_name)]
    looks = {tuple(cfg.get(key) for key in _LOOK) for cfg in tags}
    if len(looks) > 1:
        warnings.warn(
            f"the known weights of {model_name} were trained on differently normalised or resized images; {path} is given "
            "OpenCLIP's default, OpenAI's mean and std. If it was trained otherwise, set clip.preprocess",
            stacklevel=5,
        )
    return {f"image_{key}": value for key, value in zip(_LOOK, looks.pop())} if len(looks) == 1 else {}


def _created(source: str, model_name: str, weights: str | None, **look) -> tuple:
    with _readable(source, model_name):
        return open_clip.create_model_from_pretrained(model_name, weights, **look)


@contextmanager
def _readable(source: str, model_name: str) -> Iterator[None]:
    """Say in one way what is wrong with weights that OpenCLIP cannot read."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{source} holds more than weights, and code from a file is never run here. Where you trust it, save its weights "
            "alone: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        ) from error
    except (SafetensorError, EOFError) as error:
        raise ValueError(f"{source} is no complete file of weights ({error}); fetch or save it again") from error
    except (AttributeError, TypeError, StopIteration, KeyError) as error:
        raise ValueError(f"{source} must hold a state dict, names of weights and their tensors ({error})") from error
    except RuntimeError as error:
        said = str(error)
        if "TorchScript" in said:
            raise ValueError(
                f"{source} is a TorchScript archive, as OpenAI's own files are: it holds code, which is not run here. OpenAI's "
                "weights load by name, such as 'ViT-B-32-quickgelu/openai'; of any other that you trust, save the weights alone: "
                "torch.save(torch.jit.load(path, 'cpu').state_dict(), 'weights.pt')"
            ) from error
        if "Error(s) in loading state_dict" in said or "size mismatch" in said:
            raise ValueError(f"{source} does not hold the weights of {model_name}: {said[:600]}") from error
        if "PytorchStreamReader" in said or "central directory" in said:
            raise ValueError(f"{source} is no complete file of weights ({said}); fetch or save it again") from error
        if "could not be loaded" in said or "Failed to download" in said:
            raise FileNotFoundError(
                f"found no weights for {source}: {said} A folder holds them beside open_clip_config.json, as *.safetensors or "
                "*.bin; a download needs the network"
            ) from error
        raise
