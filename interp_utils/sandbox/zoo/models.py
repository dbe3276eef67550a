"""The models of the sandbox zoo: architectures, weight files, and loading by name.

Each is a small twin of a model of chapter 4 and an object of the ordinary class (timm, open_clip, chapter 4's StyleGAN2, or our
BigGenerator). Discriminative models take images [B, 3, 64, 64] normalised as by `sandbox.to_pixels`; generators put out -1..1.
"""

from functools import partial
from pathlib import Path

import open_clip
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from ...models import DATA
from ...rosetta.generators import StyleGAN2, StyleGAN2Config
from ..big_gan import BigGenerator
from ..first import clip as sandbox_clip
from ..first.world import FACTORS
from .data import KINDS

WIDTH, DEPTH, HEADS, PATCH = 128, 6, 4, 8  # of both ViTs


def resnet(classes: int = 0) -> ResNet:
    """timm's ResNet-18 with half the channels; without max pooling its stages end at 32, 16, 8 and 4 pixels."""
    model = ResNet(BasicBlock, (2, 2, 2, 2), num_classes=classes, stem_width=32, channels=(32, 64, 128, 256))
    model.maxpool = nn.Identity()
    return model


def vit() -> VisionTransformer:
    """timm's ViT with 64 patches of 8 x 8 pixels; it also takes other image sizes (smaller crops in training)."""
    model = VisionTransformer(
        img_size=64, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=0, dynamic_img_size=True
    )
    for block in model.blocks:
        block.attn.fused_attn = False  # on CPUs the plain products train twice as fast
    return model


def clip_resnet() -> open_clip.model.CLIP:
    """An open_clip CLIP with a ModifiedResNet as image tower, beside a text tower shaped as the sandbox CLIP's.

    The stem keeps its size instead of pooling, so that the stages end at 32, 16, 8 and 4 pixels, as those of `resnet`.
    """
    model = open_clip.model.CLIP(
        embed_dim=sandbox_clip.EMBED,
        vision_cfg=open_clip.model.CLIPVisionCfg(layers=(1, 2, 2, 1), width=16, head_width=64, image_size=128),
        text_cfg=open_clip.model.CLIPTextCfg(context_length=sandbox_clip.CONTEXT, width=sandbox_clip.WIDTH, heads=4, layers=3),
    )
    model.visual.avgpool = nn.Identity()  # 128 / 32 = 4 positions a side at the end, which 64 pixels reach without this pool
    model.visual.image_size = 64
    return model


class MaskedDecoder(nn.Module):
    """The decoder of a masked autoencoder (He et al. 2022): visible tokens -> pixels of all patches."""

    def __init__(self, width: int = 64, depth: int = 2):
        super().__init__()
        n = (64 // PATCH) ** 2
        self.embed = nn.Linear(WIDTH, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, n + 1, width))
        self.blocks = nn.Sequential(*(Block(width, 4, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 3 * PATCH**2)

    def forward(self, tokens: Tensor, kept: Tensor) -> Tensor:
        """tokens [B, 1 + K, D] of the class and the kept patches [B, K] -> pixels [B, N, 3 * PATCH * PATCH]."""
        x = self.embed(tokens)
        patches = self.mask_token.to(x.dtype).repeat(len(x), self.position.shape[1] - 1, 1)
        patches = patches.scatter(1, kept[..., None].expand(-1, -1, x.shape[2]), x[:, 1:])
        x = torch.cat([x[:, :1], patches], 1) + self.position
        return self.out(self.norm(self.blocks(x)))[:, 1:]


def style_gan() -> StyleGAN2:
    """A StyleGAN2 with classes, z and w of 64, and few channels; it ends at 64 pixels."""
    return StyleGAN2(StyleGAN2Config(channels=(128, 128, 96, 64, 24), d=64, kinds=len(KINDS), mapping_layers=4))


BUILDERS = {
    "resnet": partial(resnet, len(FACTORS["object"])),
    "dino_resnet": resnet,
    "dino_vit": vit,
    "mae_vit": vit,
    "mae_decoder": MaskedDecoder,
    "clip_resnet": clip_resnet,
    "big_gan": partial(BigGenerator, len(KINDS)),
    "style_gan": style_gan,
}
RECIPES = {
    "resnet": "train_supervised", "dino_resnet": "train_dino resnet", "dino_vit": "train_dino vit", "mae_vit": "train_mae",
    "mae_decoder": "train_mae", "clip_resnet": "train_clip_resnet", "big_gan": "train_generators big",
    "style_gan": "train_generators style",
}  # fmt: skip


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


def read(name: str, path: str | Path, recipe: str) -> dict[str, Tensor]:
    """The state dict in float32 that `save` wrote for the model of that name; recipe: the module that trains it.

    Raises FileNotFoundError where there is no file, ValueError where it is truncated.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"no weights of {name} at {path}; train them with: python -m {recipe}")
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


def load(name: str, path: str | Path | None = None) -> nn.Module:
    """A trained model of the zoo, frozen and in eval mode, on the CPU.

    name: one of BUILDERS. path: its weight file, by default the one that ships with the course.
    Raises ValueError for an unknown name and for a file that is truncated or holds other tensors, FileNotFoundError
    where there is none.
    """
    if name not in BUILDERS:
        raise ValueError(f"unknown model {name!r}; choose one of {', '.join(BUILDERS)}")
    if path is None:
        path = DATA / "sandbox" / f"{name}.safetensors"
    state, model = read(name, path, f"interp_utils.sandbox.zoo.{RECIPES[name]}"), BUILDERS[name]()
    expected = {key: tensor.shape for key, tensor in model.state_dict().items() if key != "attn_mask"}
    if {key: tensor.shape for key, tensor in state.items()} != expected:
        raise ValueError(f"{path} does not hold the weights of {name}; restore it with: git checkout -- data")
    model.load_state_dict(state, strict=False)
    return model.eval().requires_grad_(False)
