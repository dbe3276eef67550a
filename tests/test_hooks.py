from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from small_clips import count_hooks, noise

from interp_utils.hooks import edited_blocks, edited_neurons, forward_hooks
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


def test_an_edit_of_another_shape_is_told(tiny):
    with pytest.raises(ValueError, match=r"the edit of layer 0 returned \[17, 128\] for an output \[1, 17, 128\]"):
        with edited_neurons(tiny, 0, lambda activations: activations.mean(0)):
            tiny.encode_image(noise(tiny, 1))
    with pytest.raises(TypeError, match="layer 1 returned None"), edited_neurons(tiny, 1, lambda activations: None):
        tiny.encode_image(noise(tiny, 1))


def test_a_hook_that_never_runs_is_told(tiny):
    never = "1 of 1 hooks never ran"
    with pytest.raises(RuntimeError, match=never), edited_neurons(tiny, 0, torch.zeros_like):
        pass
    with pytest.raises(RuntimeError, match=never), edited_neurons(tiny, 0, torch.zeros_like), ThreadPoolExecutor(1) as other:
        other.submit(tiny.encode_image, noise(tiny)).result()
    with pytest.raises(ZeroDivisionError), edited_neurons(tiny, 0, torch.zeros_like):
        raise ZeroDivisionError  # an error of the block itself is what the caller should see
    mlp = tiny.visual.transformer.resblocks[0].mlp
    tiny.visual.transformer.resblocks[0].mlp = torch.jit.trace(mlp, noise(tiny).new_zeros(1, 17, 32))
    with pytest.raises(RuntimeError, match=never), forward_hooks([(mlp.gelu, lambda module, args, output: 0 * output)]):
        tiny.encode_image(noise(tiny))
    assert count_hooks(tiny.model) == 0


def test_the_compilers_switch_is_turned_back_by_the_last_thread_out():
    def stance():
        return torch._dynamo.eval_frame._stance.stance

    first, second, before = forward_hooks([]), forward_hooks([]), stance()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert stance() == "force_eager"
    second.__exit__(None, None, None)
    assert stance() == before
