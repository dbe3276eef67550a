"""The small convolutional tower from which the sandbox's ViT takes its first lessons."""

import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from . import clip

TEACHER_CHANNELS = 128  # of the teacher's 8 x 8 map


class ConvolutionalTower(nn.Module):
    """A small residual network: 64 x 64 pixels -> a map of 8 x 8 -> an embedding."""

    def __init__(self):
        super().__init__()
        stem = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
        self.lower = nn.Sequential(*stem, _block(32, 64, 2), _block(64, TEACHER_CHANNELS, 2))
        self.upper = nn.Sequential(_block(TEACHER_CHANNELS, 256, 2), _block(256, 256, 1))
        self.proj = nn.Linear(512, clip.EMBED, bias=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.embed(self.lower(pixels.contiguous(memory_format=torch.channels_last)))

    def embed(self, maps: torch.Tensor) -> torch.Tensor:
        x = self.upper(maps).flatten(2)
        return self.proj(torch.cat([x.mean(2), x.amax(2)], 1))


def _block(inputs: int, outputs: int, stride: int) -> BasicBlock:
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return BasicBlock(inputs, outputs, stride, shortcut if stride > 1 else None)
