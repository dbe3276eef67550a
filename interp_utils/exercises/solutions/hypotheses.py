"""Chapter 5a."""

import torch


def auc(on, off):
    # answers to true images [n] and to twins [m] -> a share of 1
    higher, equal = on[:, None] > off, on[:, None] == off
    return (higher.double() + 0.5 * equal.double()).mean().item()


def sign_flip_p(change, flips):
    # change [n]: differences of pairs; flips [R, n]: random signs, 1 or -1 -> a number
    return ((flips * change).mean(1) >= change.mean()).float().mean().item()


def corrected_p(p):
    # p-values of all tests [T] -> corrected by Holm's method, in the same order [T]
    order = p.argsort()
    times = torch.arange(len(p), 0, -1).to(p)
    corrected = torch.empty_like(p)
    corrected[order] = (times * p[order]).cummax(0).values.clamp(max=1)
    return corrected


def effect_in_spreads(on, off, outputs):
    # answers to pairs [n] each; outputs [B, E] of the unit on all kinds of images
    # -> a number
    spread = outputs.var(0).sum().sqrt()
    return ((on - off).mean() / spread).item()


def precision_and_recall(claimed, true):
    # bool [units, facts] each -> two shares of 1
    right = (claimed & true).sum().item()
    return right / claimed.sum().item(), right / true.sum().item()
