"""Bodies of functions that a check must refuse: answers a reader may well give, and ways around the exercise.

Every exercise has at least three of each; `body` indents them. Cheats that fit any exercise stand in `cheats`.
"""

from . import chapter_5

HOOK = "seen = []\nhandle = module.register_forward_hook(lambda *a: seen.append(a[2]))\n"
REPLACE = (
    "handle = module.register_forward_hook(lambda module, inputs, output: {})\ntry:\n    return {}\nfinally:\n    handle.remove()"
)


def replaced(by: str, then: str = "run()") -> str:
    return REPLACE.format(by, then)


def patched(then: str, hook: str = "torch.cat([seen[0][:, :1], seen[-1][:, 1:]], 1)") -> str:
    keep = "seen = []\nhandle = module.register_forward_hook(lambda module, inputs, output: (seen.append(output), {})[1])\n"
    return keep.format(hook) + f"try:\n{then}\nfinally:\n    handle.remove()"


WRONG = {
    "zero_shot": [
        "return (scale * images @ texts.T).softmax(-1)",
        "images, texts = (x / x.norm(dim=-1, keepdim=True) for x in (images, texts))\nreturn (images @ texts.T).softmax(-1)",
        "images, texts = (x / x.norm(dim=-1, keepdim=True) for x in (images, texts))\nreturn (scale * images @ texts.T).softmax(0)",
        "images, texts = (x / x.norm() for x in (images, texts))\nreturn (scale * images @ texts.T).softmax(-1)",
        "images /= images.norm(dim=-1, keepdim=True)\ntexts /= texts.norm(dim=-1, keepdim=True)\n"
        "return (scale * images @ texts.T).softmax(-1)",
    ],
    "record_output": [
        "return run()",
        HOOK + "run()\nreturn seen[0]",
        HOOK + "run()\nhandle.remove()\nreturn seen[0]",
        "seen = []\nhandle = module.register_forward_hook(lambda *a: seen.append(a[1][0]))\n"
        "try:\n    run()\nfinally:\n    handle.remove()\nreturn seen[0]",
        HOOK + "try:\n    run()\nfinally:\n    handle.remove()\nreturn seen",
        HOOK + "try:\n    run()\nexcept Exception:\n    pass\nfinally:\n    handle.remove()\nreturn seen[0]",
    ],
    "running_totals": [
        "return terms.cumsum(1)",
        "return terms[:, ::2]",
        "return terms.cumsum(1)[:, 2::2]",
        "return terms.cumsum(1)[:, 1::2]",
        "sums = terms.cumsum(1)[:, 2::2]\nreturn torch.cat([torch.zeros_like(terms[:, :1]), sums], 1)",
        "return terms.cumsum(0)[:, ::2]",
        "return torch.cat([terms[:, :1], terms[:, 1::2] + terms[:, 2::2]], 1)",
    ],
    "mean_ablate": [
        replaced("torch.zeros_like(output)"),
        replaced("output.mean().expand_as(output)"),
        replaced("output.mean((0, 1)).expand_as(output)"),
        replaced("output.mean(1, keepdim=True).expand_as(output)"),
        "module.register_forward_hook(lambda *a: a[2].mean(0).expand_as(a[2]))\nreturn run()",
        "handle = module.register_forward_hook(lambda *a: a[2].mean(0).expand_as(a[2]))\n"
        "found = run()\nhandle.remove()\nreturn found",
    ],
    "match_by_part": [
        "return torch.einsum('bpe,be->bp', parts, toward)",
        "return torch.einsum('bpe,be->bp', parts / parts.norm(dim=-1, keepdim=True), toward)",
        "return torch.einsum('bpe,be->bp', parts, toward) / parts.sum(1).norm()",
        "match = torch.einsum('bpe,be->bp', parts, toward)\nreturn match / match.sum(1, keepdim=True)",
    ],
    "patch_class_token": [
        "return run(target)",
        patched("    run(source)\n    return run(target)", "seen[0]"),
        patched("    run(target)\n    return run(source)"),
        patched("    run(source)\n    return run(target)", "torch.cat([seen[-1][:, :1], seen[0][:, 1:]], 1)"),
        HOOK + "run(source)\nhandle.remove()\nput = module.register_forward_hook("
        "lambda *a: torch.cat([seen[0][:, :1], a[2][:, 1:]], 1))\nfound = run(target)\nput.remove()\nreturn found",
    ],
    "frozen_effects": [
        "effects = norm(terms) @ projection\nreturn effects",
        "s = (terms.sum(1, keepdim=True).var(-1, correction=0, keepdim=True) + norm.eps).sqrt()\n"
        "return (norm.weight * (terms - terms.mean(-1, keepdim=True)) / s + norm.bias) @ projection",
        "s = (terms.sum(1, keepdim=True).var(-1, correction=0, keepdim=True) + norm.eps).sqrt()\n"
        "effects = norm.weight * terms / s @ projection\neffects[:, 0] += norm.bias @ projection\nreturn effects",
        "s = (terms.sum(1, keepdim=True).var(-1, keepdim=True) + norm.eps).sqrt()\n"
        "effects = norm.weight * (terms - terms.mean(-1, keepdim=True)) / s @ projection\n"
        "effects[:, 0] += norm.bias @ projection\nreturn effects",
    ],
    "resample_ablation": [
        "return torch.where(ablated[:, None], terms.mean(0), terms).sum(1)",
        "return torch.where(ablated[:, None], terms, terms[donor]).sum(1)",
        "return torch.where(ablated[:, None], terms[donor], terms)",
        "terms[:, ablated] = terms[donor][:, ablated]\nreturn terms.sum(1)",
        "return torch.where(ablated[:, None], terms[donor.argsort()], terms).sum(1)",
    ],
    "without_direction": [
        "return vectors - torch.outer(vectors @ direction, direction)",
        "unit = direction / direction.norm()\nreturn torch.outer(vectors @ unit, unit)",
        "unit = direction / direction.norm()\nreturn vectors - torch.outer(vectors @ direction, unit)",
        "return vectors - direction",
    ],
    "most_explaining_text": [
        "return (outputs @ texts.T).var(0).argmax().item()",
        "unit = texts / texts.norm(dim=1, keepdim=True)\nreturn (outputs @ unit.T).square().mean(0).argmax().item()",
        "unit = texts / texts.norm(dim=1, keepdim=True)\nreturn (outputs.mean(0) @ unit.T).argmax().item()",
        "unit = texts / texts.norm(dim=1, keepdim=True)\nreturn (outputs @ unit.T).var(0).argmin().item()",
    ],
    "worst_group": [
        "return (guesses == labels).float().mean().item()",
        "right = (guesses == labels).float()\nreturn min(right[labels == g].mean().item() for g in labels.unique())",
        "right = (guesses == labels).float()\nreturn min(right[groups == g].mean().item() for g in range(groups.max() + 1))",
        "right = (guesses == labels).float()\nreturn max(right[groups == g].mean().item() for g in groups.unique())",
        "right = (guesses == labels).float()\nreturn min(right[groups == g].sum().item() for g in groups.unique())",
    ],
    "mean_iou": [
        "return ((heat.clamp(min=0) > heat.clamp(min=0).mean()) == mask).float().mean().item()",
        "guess = heat > 0.5\nreturn ((guess & mask).sum() / (guess | mask).sum()).item()",
        "guess = heat > heat.mean()\npairs = ((guess, mask), (~guess, ~mask))\n"
        "return sum(((a & b).sum() / (a | b).sum()).item() for a, b in pairs) / 2",
        "heat = heat.clamp(min=0)\nguess = heat > heat.mean()\nreturn ((guess & mask).sum() / (guess | mask).sum()).item()",
    ],
    "hold_still": [
        "activations[..., n] = means[:, n]\nreturn activations",
        "held = activations.clone()\nheld[..., n] = means[:, n].mean()\nreturn held",
        "return means.expand_as(activations)",
        "held = activations.clone()\nheld[..., n] = activations[..., n].mean(0)\nreturn held",
        "held = activations.clone()\nheld[..., 1] = means[:, 1]\nreturn held",
    ],
    "neuron_direction": [
        "return torch.linalg.svd(rows, full_matrices=False).Vh[0]",
        "direction = torch.linalg.svd(rows - rows.mean(0), full_matrices=False).Vh[0]\n"
        "return direction if (rows @ direction > 0).sum() * 2 > len(rows) else -direction",
        "direction = torch.linalg.svd(rows, full_matrices=False).Vh[0]\n"
        "return direction if (rows @ direction).sum() > 0 else -direction",
        "return rows.mean(0) / rows.mean(0).norm()",
        "unit = rows / rows.norm(dim=1, keepdim=True)\nreturn unit.mean(0) / unit.mean(0).norm()",
    ],
    "along_direction": [
        "return torch.outer(effects @ direction, direction)",
        "return mean + torch.outer(effects @ direction, direction)",
        "return torch.outer((effects - mean) @ direction, direction)",
        "mean = effects.mean(0)\nreturn mean + torch.outer((effects - mean) @ direction, direction)",
    ],
    "share_in_one_direction": [
        "v = torch.linalg.svdvals(effects).square()\nreturn (v[0] / v.sum()).item()",
        "v = torch.linalg.svdvals(effects - effects.mean(0))\nreturn (v[0] / v.sum()).item()",
        "v = effects.var(0)\nreturn (v.max() / v.sum()).item()",
        "return torch.linalg.svdvals(effects - effects.mean(0))[0].square().item() / len(effects)",
    ],
    "pursue": [
        "return (atoms @ target).abs().topk(size).indices.tolist()",
        "picked, rest = [], target\nfor _ in range(size):\n    best = (atoms @ rest).abs().argmax().item()\n"
        "    picked.append(best)\n    rest = rest - (atoms[best] @ rest) * atoms[best]\nreturn picked",
        "picked, rest = [], target\nfor _ in range(size):\n    picked.append((atoms @ rest).argmax().item())\n"
        "    weights = torch.linalg.lstsq(atoms[picked].T, target[:, None]).solution[:, 0]\n"
        "    rest = target - atoms[picked].T @ weights\nreturn picked",
    ],
    "contribution": [
        "scores = torch.zeros(n_texts).to(v)\nscores[indices] = weights * (directions @ v)[:, None]\nreturn scores",
        "values = weights.abs() * (directions @ v)[:, None]\n"
        "return torch.zeros(n_texts).to(v).index_add_(0, indices.flatten(), values.flatten())",
        "return torch.zeros(n_texts).to(v).index_add_(0, indices.flatten(), weights.flatten())",
        "values = weights * (directions @ v)[:, None] / len(v)\n"
        "return torch.zeros(n_texts).to(v).index_add_(0, indices.flatten(), values.flatten())",
    ],
    "unit_correlation": [
        "pairs = [torch.stack([a.flatten(), b.flatten()]) for a, b in zip(first, second)]\n"
        "return torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs]).mean().item()",
        "a, b = first.flatten(), second.flatten()\nreturn (a @ b / (a.norm() * b.norm())).item()",
        "a, b = (m - m.mean((1, 2), keepdim=True) for m in (first, second))\n"
        "return ((a * b).sum() / (a.norm() * b.norm())).item()",
        "a, b = first - first.mean(), second - second.mean()\nreturn (a * b).mean().item()",
        "first -= first.mean()\nsecond -= second.mean()\nreturn ((first * second).sum() / (first.norm() * second.norm())).item()",
    ],
    "resizing_matrix": [
        "return torch.nn.functional.interpolate(torch.eye(m)[None], size=n, mode='linear', align_corners=True)[0].T",
        "return torch.nn.functional.interpolate(torch.eye(m)[None], size=n, mode='linear', align_corners=False)[0]",
        "return torch.nn.functional.interpolate(torch.eye(m)[None], size=n)[0].T",
        "return torch.nn.functional.interpolate(torch.eye(n)[None], size=m, mode='linear')[0]",
    ],
    "mutual_neighbours": [
        "return {(a, c) for a, row in enumerate(corr.topk(k, dim=1).indices.tolist()) for c in row}",
        "return {(a, int(corr[a].argmax())) for a in range(len(corr)) if corr[:, corr[a].argmax()].argmax() == a}",
        "rows = corr >= corr.topk(k, dim=1).values[:, -1:]\ncolumns = corr >= corr.topk(k, dim=0).values[-1:]\n"
        "return {tuple(pair) for pair in (rows | columns).nonzero().tolist()}",
        "corr = corr.abs()\nrows = corr >= corr.topk(k, dim=1).values[:, -1:]\ncolumns = corr >= corr.topk(k, dim=0).values[-1:]\n"
        "return {tuple(pair) for pair in (rows & columns).nonzero().tolist()}",
        "rows = corr >= corr.topk(5, dim=1).values[:, -1:]\ncolumns = corr >= corr.topk(5, dim=0).values[-1:]\n"
        "return {tuple(pair) for pair in (rows & columns).nonzero().tolist()}",
        "return (corr >= corr.topk(k, dim=1).values[:, -1:]) & (corr >= corr.topk(k, dim=0).values[-1:])",
    ],
    "without_position": [
        "a, b = first.flatten() - first.mean(), second.flatten() - second.mean()\nreturn (a @ b / (a.norm() * b.norm())).item()",
        "a, b = ((m - m.mean((1, 2), keepdim=True)).flatten() for m in (first, second))\n"
        "return (a @ b / (a.norm() * b.norm())).item()",
        "a, b = (first - first.mean(0)).flatten(), (second - first.mean(0)).flatten()\n"
        "return torch.corrcoef(torch.stack([a, b]))[0, 1].item()",
        "a, b = (m.mean(0).flatten() for m in (first, second))\nreturn torch.corrcoef(torch.stack([a, b]))[0, 1].item()",
        "first -= first.mean(0)\nsecond -= second.mean(0)\n"
        "return ((first * second).sum() / (first.norm() * second.norm())).item()",
    ],
    "pair_score": [
        "a, b = ours - ours.mean((1, 2), keepdim=True), target - target.mean()\n"
        "return (a * b).sum((1, 2)) / (a.norm(dim=(1, 2)) * b.norm())",
        "return ((ours - means[0]) * (target - means[1])).mean((1, 2))",
        "return ((ours - means[0]) / stds[0] * (target - means[1]) / stds[1]).sum((1, 2))",
        "return ((ours - means[1]) / stds[1] * (target - means[0]) / stds[0]).mean((1, 2))",
        "return ((ours - means[0]) / stds[0] * (target - means[1]) / stds[1]).mean()",
    ],
    "shifted_right": [
        "cells = int(share * maps.shape[-1])\nmoved = torch.zeros_like(maps)\n"
        "moved[..., cells:] = maps[..., : maps.shape[-1] - cells]\nreturn moved",
        "return torch.roll(maps, round(share * maps.shape[-1]), -1)",
        "moved = torch.zeros_like(maps)\nmoved[..., 1:] = maps[..., :-1]\nreturn moved",
        "cells = round(share * maps.shape[-2])\nmoved = torch.zeros_like(maps)\n"
        "moved[..., cells:, :] = maps[..., : maps.shape[-2] - cells, :]\nreturn moved",
        "cells = round(share * maps.shape[-1])\nmoved = torch.zeros_like(maps)\n"
        "moved[..., cells:] = maps[..., :-cells]\nreturn moved",
        "cells = round(share * maps.shape[-1])\nmaps[..., cells:] = maps[..., : maps.shape[-1] - cells].clone()\n"
        "maps[..., :cells] = 0\nreturn maps",
    ],
    **chapter_5.WRONG,
}  # fmt: skip

CHEATS = {  # a constant, or the result of this package; `cheats` adds those that fit any exercise
    "zero_shot": ["return torch.full((len(images), len(texts)), 0.2).to(images)", "return iu.widgets.zero_shot(*images)"],
    "record_output": ["return iu.hooks.record_output(module, run)", "return torch.zeros(3, 4, 5)"],
    "running_totals": ["return iu.heads.accumulated_resid(terms)", "return torch.zeros_like(terms[:, ::2])"],
    "mean_ablate": [
        "with iu.hooks.forward_hooks([(module, lambda *a: a[2].mean(0).expand_as(a[2]))]):\n    return run()",
        "old = module.forward\nmodule.forward = lambda x: old(x).mean(0).expand_as(old(x))\nreturn run()",
    ],
    "match_by_part": ["return torch.zeros_like(parts[..., 0])", "return torch.full(parts.shape[:2], 0.5).to(parts)"],
    "patch_class_token": [
        "with iu.hooks.forward_hooks([(module, lambda *a: a[2])]):\n    return run(source)",
        "return run(torch.cat([source[:, :1], target[:, 1:]], 1))",
    ],
    "frozen_effects": ["return iu.heads.direct_effects(terms, norm, projection)", "return torch.zeros_like(terms @ projection)"],
    "resample_ablation": ["return terms.sum(1)", "return torch.zeros_like(terms[:, 0])"],
    "without_direction": ["return torch.zeros_like(vectors)", "return vectors"],
    "most_explaining_text": ["return 0", "return iu.heads.textspan(outputs, texts, list(texts), 1, normalised=True).indices[0]"],
    "worst_group": ["return 1 / 3", "return 0.0"],
    "mean_iou": ["return iu.segmentation.SegmentationScores().result()", "return 0.5"],
    "hold_still": ["return activations", "held = activations.clone()\nheld[..., 2] = means[:, 2]\nreturn held"],
    "neuron_direction": ["return torch.eye(rows.shape[1]).to(rows)[0]", "return iu.neurons.rank_one(rows)"],
    "along_direction": ["return mean.expand_as(effects)", "return effects"],
    "share_in_one_direction": ["return 0.64", "return iu.neurons.rank_one.concentration(effects, effects)[0]"],
    "pursue": [
        "return iu.neurons.omp(target[None], atoms, size)[0][0].tolist()",
        "from interp_utils.neurons import omp\nreturn omp(target[None], atoms, size)[0][0].tolist()",
        "return list(range(size))",
    ],
    "contribution": ["return torch.tensor([-3.0, -2.0, 4.5, -1.0, 0.0])", "return torch.zeros(n_texts).to(v)"],
    "unit_correlation": [
        "return iu.rosetta.correlate_maps([(first[:, None], second[:, None])]).item()",
        "return 1.0",
        "return 0.0",
    ],
    "resizing_matrix": [
        "return iu.rosetta.matching.resizing.resizing_matrix(m, n).float()",
        "return torch.full((n, m), 1 / m)",
        "return torch.eye(n, m)",
    ],
    "mutual_neighbours": [
        "return {tuple(pair) for pair in iu.rosetta.best_buddies(corr, k).tolist()}",
        "return {(0, 0)}",
        "return set()",
    ],
    "without_position": [
        "maps = [(m - m.mean(0))[:, None] for m in (first, second)]\nreturn iu.rosetta.correlate_maps([maps]).item()",
        "return 0.0",
        "return 0.4",
    ],
    "pair_score": [
        "units = [iu.rosetta.Units(name, ('x',), (1,)) for name in 'ab']\n"
        "pairs = iu.rosetta.Pairs(*units, torch.tensor([[0, 0]]), torch.tensor([[*means]]), torch.tensor([[*stds]]))\n"
        "return iu.rosetta.Guidance(pairs, [target[None, None]]).scores([ours[:, None]])[:, 0]",
        "return torch.zeros(len(ours)).to(ours)",
        "return torch.ones(len(ours)).to(ours)",
    ],
    "shifted_right": [
        "return iu.rosetta.shift(share)([maps[None]])[0][0]",
        "return torch.zeros_like(maps)",
        "return maps",
    ],
    **chapter_5.CHEATS,
}  # fmt: skip


def cheats(name: str, parameters: str) -> list[str]:
    """Bodies that get around the exercise `name`: its own, and five ways to the folded solution."""
    solution = f"solutions.{name}({parameters})"
    return [
        *CHEATS[name],
        f"return iu.exercises.{solution}",
        f"from interp_utils.exercises import solutions\nreturn {solution}",
        f"return __import__('interp_' + 'utils').exercises.{solution}",
        f"return helper({parameters})",  # a function of the notebook's that calls this package
        f"return kept['it']({parameters})",
    ]
