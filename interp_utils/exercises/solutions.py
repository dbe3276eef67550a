"""One solution for each exercise of chapters 1 to 4, as it stands folded in the notebook: signature, what is what, answer."""

import torch

# chapter 1


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


# chapter 2


def frozen_effects(terms, norm, projection):
    # terms [B, P, D]; norm: the last layer norm; projection [D, E] -> [B, P, E]
    stream = terms.sum(1, keepdim=True)
    s = (stream.var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
    centred = terms - terms.mean(-1, keepdim=True)
    effects = norm.weight * centred / s @ projection
    effects[:, 0] += norm.bias @ projection
    return effects


def resample_ablation(terms, ablated, donor):
    # terms [B, P, E], ablated [P] bool, donor [B] integers -> [B, E]
    return torch.where(ablated[:, None], terms[donor], terms).sum(1)


def without_direction(vectors, direction):
    # vectors [K, E], direction [E] of any length -> [K, E]
    unit = direction / direction.norm()
    return vectors - torch.outer(vectors @ unit, unit)


def most_explaining_text(outputs, texts):
    # outputs [K, E], texts [T, E] (of any length) -> place of the text
    directions = texts / texts.norm(dim=1, keepdim=True)
    return (outputs @ directions.T).var(0).argmax().item()


def worst_group(guesses, labels, groups):
    # integers [B] each -> accuracy of the worst group, a share of 1
    right = (guesses == labels).float()
    return min(right[groups == g].mean().item() for g in groups.unique())


def mean_iou(heat, mask):
    # heat [H, W] scores, mask [H, W] bool -> a share of 1
    heat = heat.clamp(min=0)
    guess = heat > heat.mean()
    pairs = ((guess, mask), (~guess, ~mask))
    return sum(((a & b).sum() / (a | b).sum()).item() for a, b in pairs) / 2


# chapter 3


def hold_still(activations, means, n):
    # activations [B, N+1, M], means [N+1, M], n an integer -> [B, N+1, M]
    held = activations.clone()
    held[..., n] = means[:, n]
    return held


def neuron_direction(rows):
    # rows [T, E] -> [E]
    direction = torch.linalg.svd(rows, full_matrices=False).Vh[0]
    return direction if (rows @ direction > 0).sum() * 2 > len(rows) else -direction


def along_direction(effects, mean, direction):
    # effects [B, E], mean [E], direction [E] of unit length -> [B, E]
    return mean + torch.outer((effects - mean) @ direction, direction)


def share_in_one_direction(effects):
    # effects [B, E] of one neuron -> a share of 1
    centred = effects - effects.mean(0)
    variances = torch.linalg.svdvals(centred).square()
    return (variances[0] / variances.sum()).item()


def pursue(target, atoms, size):
    # target [E], atoms [T, E] of unit length -> list of `size` numbers
    picked, rest = [], target
    for _ in range(size):
        picked.append((atoms @ rest).abs().argmax().item())
        chosen = atoms[picked].T
        weights = torch.linalg.lstsq(chosen, target[:, None]).solution[:, 0]
        rest = target - chosen @ weights
    return picked


def contribution(indices, weights, directions, v, n_texts):
    # indices [n, m], weights [n, m], directions [n, E], v [E] -> [n_texts]
    products = weights * (directions @ v)[:, None]
    scores = torch.zeros(n_texts).to(products)
    return scores.index_add_(0, indices.flatten(), products.flatten())


# chapter 4


def unit_correlation(first, second):
    # maps [n, h, w] of two units on the same images -> a number
    a, b = first.flatten() - first.mean(), second.flatten() - second.mean()
    return (a @ b / (a.norm() * b.norm())).item()


def resizing_matrix(m, n):
    # n larger than m -> U [n, m]
    resize = torch.nn.functional.interpolate
    return resize(torch.eye(m)[None], size=n, mode="linear", align_corners=False)[0].T


def mutual_neighbours(corr, k):
    # corr [A, C] -> set of (row, column)
    of_rows = corr >= corr.topk(k, dim=1).values[:, -1:]
    of_columns = corr >= corr.topk(k, dim=0).values[-1:]
    return {tuple(pair) for pair in (of_rows & of_columns).nonzero().tolist()}


def without_position(first, second):
    # maps [n, h, w] of two units on the same images -> a number
    left = [(maps - maps.mean(0)).flatten() for maps in (first, second)]
    return torch.corrcoef(torch.stack(left))[0, 1].item()


def pair_score(ours, target, means, stds):
    # ours [B, h, w], target [h, w]; means, stds: (generator's unit, partner) -> [B]
    a, b = (ours - means[0]) / stds[0], (target - means[1]) / stds[1]
    return (a * b).mean((1, 2))


def shifted_right(maps, share):
    # maps [..., h, w], share between 0 and 1 -> the same shape
    cells = round(share * maps.shape[-1])
    return torch.nn.functional.pad(maps, (cells, 0))[..., : maps.shape[-1]]
