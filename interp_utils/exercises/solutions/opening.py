"""Chapter 1."""

import torch


def zero_shot(images, texts, scale):
    # images [B, E], texts [T, E]: vectors of any length; scale: a number
    # -> probabilities [B, T]
    images, texts = (x / x.norm(dim=-1, keepdim=True) for x in (images, texts))
    return (scale * images @ texts.T).softmax(-1)


def record_output(module, run):
    # -> the module's output
    seen = []
    handle = module.register_forward_hook(lambda *args: seen.append(args[2]))
    try:
        run()
    finally:
        handle.remove()
    return seen[0]


def running_totals(terms):
    # terms [B, 2L+1, D]: embedding, attention 0, MLP 0, attention 1, ...
    # -> the stream before the first block and after each [B, L+1, D]
    return terms.cumsum(1)[:, ::2]


def mean_ablate(module, run):
    # -> the network's output when the module gives every image its mean over the images
    def hook(module, inputs, output):
        return output.mean(0, keepdim=True).expand_as(output)

    handle = module.register_forward_hook(hook)
    try:
        return run()
    finally:
        handle.remove()


def match_by_part(parts, toward):
    # parts [B, P, E] add up to each image's representation; toward [B, E]
    # -> [B, P], which add up to <unit representation, toward>
    match = torch.einsum("bpe,be->bp", parts, toward)
    return match / parts.sum(1).norm(dim=-1, keepdim=True)


def patch_class_token(module, run, source, target):
    # run(x) runs the network; module puts out [images, tokens, width]
    # -> the network's output for target, with the source's class token after the module
    seen = []

    def hook(module, inputs, output):
        seen.append(output)
        return torch.cat([seen[0][:, :1], output[:, 1:]], 1)

    handle = module.register_forward_hook(hook)
    try:
        run(source)
        return run(target)
    finally:
        handle.remove()
