"""What gradients of a large generator keep in memory."""

import torch
from small_generators import SMALL_XL

from interp_utils.rosetta.generators import StyleGANXL


def test_gradients_of_style_gan_xl_need_little_more_than_its_maps():
    """All that its layers make on the way would take 24 GiB for each image."""
    with torch.device("meta"):
        model, kept = StyleGANXL().eval().synthesis.requires_grad_(False), {}

    def pack(saved):
        storage = saved.untyped_storage()
        kept[storage._cdata] = storage  # held, so that no other takes its place
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        model(torch.zeros(1, model.n_styles, 512, device="meta", requires_grad=True))
    maps = sum(4 * layer.after.channels * layer.after.size**2 for layer in model.plan)
    assert sum(storage.nbytes() for storage in kept.values()) < 1.5 * maps


def test_gradients_of_style_gan_xl_reach_what_hooks_recorded():
    torch.manual_seed(0)
    synthesis = StyleGANXL(SMALL_XL).eval().synthesis.requires_grad_(False)
    ws = torch.randn(2, synthesis.n_styles, SMALL_XL.d, requires_grad=True)
    name, found = synthesis.plan[3].name, []
    handle = getattr(synthesis, name).register_forward_hook(lambda module, args, output: found.append(output.exp().log()))
    synthesis(ws)
    handle.remove()
    x = synthesis.input(ws[:, 0])
    for k, layer in enumerate(synthesis.plan[:4], 1):
        x = getattr(synthesis, layer.name)(x, ws[:, k], synthesis.clamp)
    (ours,), (expected,) = (torch.autograd.grad(maps.square().sum(), ws) for maps in (found[0], x))
    assert expected.abs().sum() > 0
    torch.testing.assert_close(ours, expected, atol=1e-5 * expected.abs().max().item(), rtol=1e-3)
