"""Training recipe of the masked autoencoder among the viewers. Resumable: run the same command again after a stop.

    python -m interp_utils.sandbox.viewers.train_mae --device cuda

He et al., "Masked Autoencoders Are Scalable Vision Learners" (2022): the encoder sees a quarter of the patches, a small
decoder paints all of them, and the squared error of the hidden ones is the loss. Targets are pixels as they are: most of
our patches are nearly flat, and normalising each by its own spread would ask for their faint texture above all.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from ..tasks import to_pixels
from ..training import Checkpoint, arguments, frozen_copy, loop, set_rate
from ..weights import save
from .curves import Curve
from .data import STOCK, Stock, balanced_images, training_batch
from .models import PATCH, mae_decoder, vit

STEPS, SIZE, GPU_SIZE, RATE = 10_000, 128, 1024, 1.5e-3
MASKED = 0.75
HOLD = 0.7  # share of the run after which the rate falls


def patches(pixels: Tensor) -> Tensor:
    """[B, 3, 64, 64] -> [B, N, 3 * PATCH * PATCH], in the order of the ViT's tokens."""
    return torch.nn.functional.unfold(pixels, PATCH, stride=PATCH).transpose(1, 2)


def encode(encoder: nn.Module, pixels: Tensor, masked: float = MASKED) -> tuple[Tensor, Tensor]:
    """Final tokens [B, 1 + K, D] of the class and of K random patches, and which ones they are, [B, K]."""
    x = encoder._pos_embed(encoder.patch_embed(pixels))
    n = x.shape[1] - 1
    kept = torch.rand(len(x), n, device=x.device).argsort(1)[:, : round(n * (1 - masked))]
    seen = x[:, 1:].gather(1, kept[..., None].expand(-1, -1, x.shape[2]))
    return encoder.norm(encoder.blocks(torch.cat([x[:, :1], seen], 1))), kept


def masked_error(target: Tensor, painted: Tensor, kept: Tensor) -> Tensor:
    """Mean squared error over the patches [B, N, P] that are not among the kept ones [B, K]."""
    hidden = torch.ones(target.shape[:2], device=target.device).scatter(1, kept, 0.0)
    return ((target - painted).square().mean(2) * hidden).sum() / hidden.sum()


@torch.no_grad()
def error_report(encoder: nn.Module, decoder: nn.Module, n: int = 1000, seed: int = 3) -> dict[str, float]:
    """Masked error on fresh balanced images, of the decoder and of guessing each image's mean visible pixel."""
    torch.manual_seed(seed)
    pixels = to_pixels(balanced_images(n, seed)[0])
    target = patches(pixels)
    tokens, kept = encode(encoder.eval(), pixels)
    visible = target.gather(1, kept[..., None].expand(-1, -1, target.shape[2])).unflatten(2, (3, -1))
    mean = visible.mean((1, 3))[:, None, :, None].expand(-1, target.shape[1], -1, PATCH**2).flatten(2)
    return {
        "masked error": masked_error(target, decoder.eval()(tokens, kept), kept).item(),
        "mean-pixel error": masked_error(target, mean, kept).item(),
    }


def run(
    out: Path, steps: int = STEPS, size: int = SIZE, every: int = 1500, device="cpu", images=None
) -> tuple[nn.Module, nn.Module]:
    """Train, from the checkpoint if there is one, for at most `steps` steps; encoder and decoder in eval mode, on the CPU.

    images: a `Stock` on the device, by default `training_batch`.
    """
    torch.manual_seed(0)
    encoder, decoder = vit().to(device), mae_decoder().to(device)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], lr=RATE, betas=(0.9, 0.95), weight_decay=0.05)
    curve = Curve(out / "mae_vit.csv", size)

    def update(step: int) -> dict[str, float]:
        set_rate(optimizer, RATE, step, steps, warm=200, hold=HOLD)
        pixels, _ = (images or training_batch)(step, size)
        with torch.autocast(pixels.device.type, torch.bfloat16):
            tokens, kept = encode(encoder.train(), pixels, MASKED)
            painted = decoder.train()(tokens, kept)
        loss = masked_error(patches(pixels), painted.float(), kept)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"loss": loss.item()}

    checkpoint = Checkpoint(out / "mae.pt", encoder=encoder, decoder=decoder, optimizer=optimizer, curve=curve)
    loop("mae", checkpoint, steps, update, lambda step: curve.report(step, frozen_copy(encoder).cpu()), every, int(HOLD * steps))
    return encoder.cpu().eval(), decoder.cpu().eval()


def main():
    args = arguments(__doc__, STEPS, gpu=True)
    size, images = (SIZE, None) if args.device == "cpu" else (GPU_SIZE, Stock(STOCK, args.device))
    encoder, decoder = run(args.out, args.steps, size, device=args.device, images=images)
    save(encoder, args.out / "mae_vit.safetensors")
    print("squared error:", error_report(encoder, decoder))


if __name__ == "__main__":
    main()
