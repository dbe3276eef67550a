"""Weight files of the small models that see and draw."""

from pathlib import Path

import open_clip
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


def save(model: nn.Module, path: str | Path, token_ids: Tensor | None = None) -> None:
    """Write the weights; matrices and kernels in half precision. token_ids: the only tokens whose embedding is kept."""
    state = {
        name: (tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "attn_mask"
    }
    if token_ids is not None:
        rows = state["token_embedding.weight"]
        state["token_embedding.weight"] = rows if len(rows) == len(token_ids) else rows[token_ids].contiguous()
        state["token_ids"] = token_ids
    save_file(state, path)


def read(name: str, path: str | Path, recipe: str | None = None) -> dict[str, Tensor]:
    """The state dict in float32 that `save` wrote for the model of that name; recipe: the module that trains it, if there is one.

    Raises FileNotFoundError where there is no file, ValueError where it is truncated.
    """
    if not Path(path).exists():
        way = "restore them with: git checkout -- data" if recipe is None else f"train them with: python -m {recipe}"
        raise FileNotFoundError(f"no weights of {name} at {path}; {way}")
    try:
        with safe_open(path, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}
    except Exception as error:  # safetensors raises its own type, which is not public
        raise ValueError(f"{path} is not a complete safetensors file ({error}); restore it with: git checkout -- data") from error
    state = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    if "token_ids" in state:  # the other tokens get a zero row
        ids, rows = state.pop("token_ids"), state["token_embedding.weight"]
        table = rows.new_zeros(open_clip.tokenizer.SimpleTokenizer().vocab_size, rows.shape[1])
        table[ids] = rows
        state["token_embedding.weight"] = table
    return state
