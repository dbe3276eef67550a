from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from conftest import count_hooks, noise

from interp_utils.hooks import edited_blocks, forward_hooks
from interp_utils.neurons import second_order


def test_hooks_see_only_their_own_thread(tiny):
    seen, pixels = [], noise(tiny, 1)
    with forward_hooks([(tiny.visual.ln_post, lambda module, args, output: seen.append(len(output)))]):
        with ThreadPoolExecutor(1) as other:
            other.submit(tiny.encode_image, noise(tiny, 3)).result()
        assert seen == []
        tiny.encode_image(pixels)
    assert seen == [1] and count_hooks(tiny.model) == 0


def test_two_threads_on_one_model_do_not_disturb_each_other(tiny):
    order, together = second_order(tiny, 0), Barrier(2)
    batches = [noise(tiny, n, seed=n) for n in (1, 6)]
    alone = [order.norms(pixels) for pixels in batches]

    def run(pixels):
        together.wait()
        return [order.norms(pixels) for _ in range(20)]

    with ThreadPoolExecutor(2) as pool:
        for expected, found in zip(alone, pool.map(run, batches)):
            assert all(torch.allclose(norms, expected, rtol=1e-4, atol=1e-6) for norms in found)
    assert count_hooks(tiny.model) == 0


def test_an_edit_that_returns_nothing_is_told(tiny):
    for edits in ({1: lambda inputs, output: None}, {}), ({}, {1: lambda output: None}):
        with pytest.raises(TypeError, match="layer 1 returned None"), edited_blocks(tiny, *edits):
            tiny.encode_image(noise(tiny, 1))
        assert count_hooks(tiny.model) == 0
