"""The viewers: architectures, weight files, and loading by name.

Each is a small twin of a model of chapter 4 and an object of the ordinary class of timm or open_clip. All take images
[B, 3, 64, 64] normalised as by `sandbox.to_pixels`.
"""

from functools import partial
from pathlib import Path

import open_clip
import torch
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from ...models import DATA
from .. import clip
from ..weights import read
from ..world import OBJECTS

WIDTH, DEPTH, HEADS, PATCH = 128, 6, 4, 8  # of both ViTs


def resnet(classes: int = 0) -> ResNet:
    """timm's ResNet-10 with half the channels; without max pooling its stages end at 32, 16, 8 and 4 pixels."""
    model = ResNet(BasicBlock, (1, 1, 1, 1), num_classes=classes, stem_width=32, channels=(32, 64, 128, 256))
    model.maxpool = nn.Identity()
    return model


class Stem(nn.Module):
    """Patch embedding by three strided convolutions (Xiao et al. 2021, "Early convolutions help transformers see better")."""

    def __init__(self, channels: tuple[int, ...] = (3, 32, 64, 128)):
        super().__init__()
        self.img_size, self.grid_size, layers = (64, 64), (64 // PATCH, 64 // PATCH), []
        for a, b in zip(channels, channels[1:]):
            layers += [nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], WIDTH, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.layers(pixels).movedim(1, 3)  # [B, h, w, D], as timm wants it where image sizes vary

    def feat_ratio(self, as_scalar: bool = True) -> int | tuple[int, int]:
        """Pixels for each token, as timm's own patch embeddings say it."""
        return PATCH if as_scalar else (PATCH, PATCH)


def vit(stem: bool = False) -> VisionTransformer:
    """timm's ViT with 64 patches of 8 x 8 pixels; it also takes other image sizes (smaller crops in training).

    stem: embed the patches by convolutions that overlap, not each by itself.
    """
    model = VisionTransformer(
        img_size=64, patch_size=PATCH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS, num_classes=0, dynamic_img_size=True
    )
    if stem:
        model.patch_embed = Stem()
    return _plain_attention(model)


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


def mae_decoder() -> MaskedDecoder:
    """What the masked autoencoder paints with while it learns; nothing looks at it later."""
    return _plain_attention(MaskedDecoder())


def _plain_attention(model: nn.Module) -> nn.Module:
    for block in model.blocks:
        block.attn.fused_attn = False  # on CPUs the plain products train twice as fast
    return model


def clip_resnet() -> open_clip.model.CLIP:
    """An open_clip CLIP with a ModifiedResNet as image tower, beside a text tower shaped as the sandbox CLIP's.

    The stem keeps its size instead of pooling, so that the stages end at 32, 16, 8 and 4 pixels, as those of `resnet`.
    """
    model = open_clip.model.CLIP(
        embed_dim=clip.EMBED,
        vision_cfg=open_clip.model.CLIPVisionCfg(layers=(1, 2, 2, 1), width=16, head_width=64, image_size=128),
        text_cfg=open_clip.model.CLIPTextCfg(
            context_length=clip.CONTEXT, width=clip.TEXT_WIDTH, heads=clip.TEXT_HEADS, layers=clip.TEXT_LAYERS
        ),
    )
    model.visual.avgpool = nn.Identity()  # 128 / 32 = 4 positions a side at the end, which 64 pixels reach without this pool
    model.visual.image_size = 64
    return model


BUILDERS = {
    "resnet": partial(resnet, len(OBJECTS)),
    "dino_resnet": resnet,
    "dino_vit": partial(vit, stem=True),
    "mae_vit": vit,
    "clip_resnet": clip_resnet,
}
RECIPES = {
    "resnet": "train_supervised", "dino_resnet": "train_dino resnet", "dino_vit": "train_dino vit", "mae_vit": "train_mae",
    "clip_resnet": "train_clip_resnet",
}  # fmt: skip


def load(name: str, path: str | Path | None = None) -> nn.Module:
    """A trained viewer, frozen and in eval mode, on the CPU.

    name: one of BUILDERS. path: its weight file, by default the one that ships with the course.
    Raises ValueError for an unknown name and for a file that is truncated or holds other tensors, FileNotFoundError
    where there is none.
    """
    if name not in BUILDERS:
        raise ValueError(f"unknown viewer {name!r}; choose one of {', '.join(BUILDERS)}")
    path = Path(path or DATA / "sandbox" / "viewers" / f"{name}.safetensors")
    state, model = read(name, path, f"interp_utils.sandbox.viewers.{RECIPES[name]}"), BUILDERS[name]()
    expected = {key: tensor.shape for key, tensor in model.state_dict().items() if key != "attn_mask"}
    if {key: tensor.shape for key, tensor in state.items()} != expected:
        raise ValueError(f"{path} does not hold the weights of {name}; restore it with: git checkout -- data")
    model.load_state_dict(state, strict=False)
    return model.float().eval().requires_grad_(False)
