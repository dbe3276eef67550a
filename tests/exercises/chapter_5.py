"""Bodies of functions that the checks of chapter 5 must refuse; see `answers`."""

GRADIENT = "leaf = activations.clone().requires_grad_()\n(grad,) = torch.autograd.grad(score(leaf).sum(), leaf)\n"
EFFECTS = "none, one, two, both = score(), score(a), score(b), score(a, b)\n"
REGISTER = "moved = activations.clone()\nmoved[:, -1, neurons] = {}\nmoved[:, {}, neurons] = 0\nreturn moved"
RIDGE = (
    "c, w = x - x.mean(0), y - y.mean(0)\nW = torch.linalg.solve(c.T @ c + {} * torch.eye(x.shape[1]).to(x), c.T @ w)\nreturn W, {}"
)
PARTS = "mediated, direct = frozen - anew, intact - frozen\n"
RMS = "m, d = (x.square().sum(-1).mean().sqrt() for x in (mediated, direct))\n"

WRONG = {
    "auc": [
        "return (on[:, None] > off).double().mean().item()",
        "return (on[:, None] >= off).double().mean().item()",
        "return (on > off).double().mean().item()",
        "return ((on[:, None] < off).double() + 0.5 * (on[:, None] == off).double()).mean().item()",
        "return ((on > off).double() + 0.5 * (on == off).double()).mean().item()",
    ],
    "sign_flip_p": [
        "return ((flips * change).mean(1) > change.mean()).float().mean().item()",
        "return ((flips * change).mean(1).abs() >= change.mean().abs()).float().mean().item()",
        "return ((flips * change).mean(1) > 0).float().mean().item()",
        "return (change <= 0).float().mean().item()",
        "return ((flips * change).mean(1) >= change.mean()).sum().item()",
        "change *= 2\nreturn ((flips * change).mean(1) >= change.mean()).float().mean().item()",
    ],
    "corrected_p": [
        "return (len(p) * p).clamp(max=1)",
        "rank = p.argsort().argsort()\nreturn ((len(p) - rank) * p).clamp(max=1)",
        "order = p.argsort()\ntimes = torch.arange(len(p), 0, -1).to(p)\nreturn (times * p[order]).cummax(0).values.clamp(max=1)",
        "order = p.argsort()\ntimes = torch.arange(len(p), 0, -1).to(p)\nfound = torch.empty_like(p)\n"
        "found[order] = (times * p[order]).cummax(0).values\nreturn found",
        "rank = p.argsort().argsort()\nreturn ((rank + 1) * p).clamp(max=1)",
    ],
    "effect_in_spreads": [
        "return ((on - off).mean() / (on - off).std()).item()",
        "return ((on - off).mean() / outputs.std(0).sum()).item()",
        "return ((on - off).mean() / outputs.std()).item()",
        "return ((on - off).mean() / outputs.var(0).sum()).item()",
        "return ((on - off).mean() / outputs.square().sum(1).mean().sqrt()).item()",
        "return ((off - on).mean() / outputs.var(0).sum().sqrt()).item()",
    ],
    "precision_and_recall": [
        "right = (claimed & true).sum().item()\nreturn right / true.sum().item(), right / claimed.sum().item()",
        "same = (claimed == true).float().mean().item()\nreturn same, same",
        "right = (claimed & true).sum(1)\nreturn (right / claimed.sum(1)).mean().item(), (right / true.sum(1)).mean().item()",
        "right = (claimed & true).sum().item()\nreturn right / claimed.sum().item(), right / (claimed | true).sum().item()",
        "return (claimed & true).sum().item() / claimed.sum().item()",
    ],
    "in_circuit": [
        "return torch.where(masks[:, None].bool(), means, activations)",
        "return activations * masks[:, None]",
        "return torch.where(masks.bool(), activations, means)",
        "return torch.where(masks[:, None].bool(), activations, activations.mean(0))",
        "return torch.where(masks[0].bool(), activations, means)",
        "activations += (means - activations) * (1 - masks[:, None])\nreturn activations",
    ],
    "attribution": [
        GRADIENT + "return (activations * grad).sum(1).mean(0)",
        GRADIENT + "return ((means - activations) * grad).sum(1).mean(0)",
        GRADIENT + "return grad.sum(1).mean(0)",
        GRADIENT + "return ((activations - means) * grad).sum((0, 1))",
        "activations.requires_grad_()\n(grad,) = torch.autograd.grad(score(activations).sum(), activations)\n"
        "return ((activations.detach() - means) * grad).sum(1).mean(0)",
        "leaf = activations.clone().requires_grad_()\nscore(leaf).sum().backward()\n"
        "return ((activations - means) * leaf.grad).sum(1).mean(0)",
        "found = []\nfor n in range(activations.shape[-1]):\n    held = activations.clone()\n    held[..., n] = means[:, n]\n"
        "    found.append((score(activations) - score(held)).mean().detach())\nreturn torch.stack(found)",
    ],
    "recovered_share": [
        "return (circuit.mean() / whole.mean()).item()",
        "return ((circuit - empty) / (whole - empty)).mean().item()",
        "return ((circuit.mean() - empty.mean()) / whole.mean()).item()",
        "return ((whole.mean() - circuit.mean()) / (whole.mean() - empty.mean())).item()",
        "return ((circuit.mean() - empty.mean()) / (whole.mean() - empty.mean())).clamp(0, 1).item()",
    ],
    "mediated_share": [
        PARTS + RMS + "return (d / (m + d)).item()",
        PARTS + "m, d = (x.norm(dim=-1).mean() for x in (mediated, direct))\nreturn (m / (m + d)).item()",
        "mediated, direct = frozen - anew, intact - anew\n" + RMS + "return (m / (m + d)).item()",
        PARTS + "m, d = (x.mean(0).norm() for x in (mediated, direct))\nreturn (m / (m + d)).item()",
        PARTS + "return (mediated.square().sum() / (mediated.square().sum() + direct.square().sum())).item()",
    ],
    "interaction": [
        EFFECTS + "return both - one - two",
        EFFECTS + "return (none - one) + (none - two) - (none - both)",
        EFFECTS + "return (none - both) - (none - one)",
        EFFECTS + "return ((none - both) - (none - one) - (none - two)).mean()",
        EFFECTS + "return none - both",
    ],
    "written_by_heads": [
        "W = weight.unflatten(1, (mixed.shape[1], -1))\nreturn torch.einsum('bhnd,Dhd->bnhD', mixed, W) + bias",
        "W = weight.unflatten(1, (mixed.shape[1], -1))\nreturn torch.einsum('bhnd,Dhd->bnhD', mixed, W)",
        "W = weight.unflatten(1, (-1, mixed.shape[1]))\nreturn torch.einsum('bhnd,Ddh->bnhD', mixed, W) + bias / mixed.shape[1]",
        "W = weight.unflatten(1, (mixed.shape[1], -1))\nreturn torch.einsum('bhnd,Dhd->bhnD', mixed, W) + bias / mixed.shape[1]",
        "h = mixed.shape[1]\nwhole = mixed.transpose(1, 2).flatten(2) @ weight.T + bias\n"
        "return whole[:, :, None].expand(-1, -1, h, -1) / h",
    ],
    "ridge_with_constant": [
        "W = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]).to(x), x.T @ y)\nreturn W, torch.zeros(y.shape[1]).to(x)",
        "ones = torch.cat([x, torch.ones_like(x[:, :1])], 1)\n"
        "W = torch.linalg.solve(ones.T @ ones + penalty * torch.eye(ones.shape[1]).to(x), ones.T @ y)\nreturn W[:-1], W[-1]",
        "W = torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]).to(x), x.T @ y)\nreturn W, y.mean(0) - x.mean(0) @ W",
        RIDGE.format("penalty", "y.mean(0)"),
        RIDGE.format("len(x) * penalty", "y.mean(0) - x.mean(0) @ W"),
        RIDGE.format("0", "y.mean(0) - x.mean(0) @ W"),
    ],
    "explained_share": [
        "c = outputs - outputs.mean(0)\ngroups = [c[labels == k] for k in range(labels.max() + 1)]\n"
        "return (sum(len(g) * g.mean(0).square().sum() for g in groups) / c.square().sum()).item()",
        "c = outputs - outputs.mean(0)\nm = torch.stack([c[labels == k].mean(0) for k in labels.unique()])\n"
        "return (m.square().sum(1).mean() / c.square().sum(1).mean()).item()",
        "c = outputs - outputs.mean(0)\nm = torch.stack([c[labels == k].mean(0) for k in labels])\n"
        "return (m.square().sum(0) / c.square().sum(0)).mean().item()",
        "m = torch.stack([outputs[labels == k].mean(0) for k in labels])\n"
        "return (m.square().sum() / outputs.square().sum()).item()",
        "m = torch.stack([outputs[labels == k].mean(0) for k in labels])\n"
        "return ((outputs - m).square().sum() / (outputs - outputs.mean(0)).square().sum()).item()",
    ],
    "into_register": [
        REGISTER.format("activations[:, :-1, neurons].amax(1)", "1:-1"),
        REGISTER.format("activations[:, 1:-1, neurons].mean(1)", "1:-1"),
        REGISTER.format("activations[:, 1:-1, neurons].amax(1)", ":-1"),
        REGISTER.format("activations[:, 1:-1, neurons].amax(1).clamp(min=0)", "1:-1"),
        "activations[:, -1, neurons] = activations[:, 1:-1, neurons].amax(1)\n"
        "activations[:, 1:-1, neurons] = 0\nreturn activations",
        "moved = activations.clone()\nmoved[:, 1:-1, neurons] = 0\n"
        "moved[:, -1, neurons] = moved[:, 1:-1, neurons].amax(1)\nreturn moved",
    ],
    "noise_moment": [
        "out = m.T @ w_o\nreturn out @ out.T",
        "a = m.T @ w_o @ w_v\nreturn a",
        "a = m.T @ w_o @ w_v\nreturn a.T @ a",
        "a = m.T @ w_o @ w_v\nn = torch.randn(w_v.shape[1], 5000).to(a)\nreturn a @ n @ n.T @ a.T / 5000",
        "a = m.T @ w_o @ w_v\nreturn a @ a.T / a.shape[1]",
    ],
}  # fmt: skip

CHEATS = {
    "auc": [
        "return iu.science.paired_statistics(on, off[: len(on)], 1.0)['auc']",
        "return 0.5",
        "return on.mean().item() > off.mean().item()",
    ],
    "sign_flip_p": ["return iu.statistics.sign_flip_p(change)", "return 0.05", "return flips.float().mean().item()"],
    "corrected_p": [
        "return torch.tensor(iu.statistics.holm(p.tolist())).to(p)",
        "return torch.ones_like(p)",
        "return p",
    ],
    "effect_in_spreads": [
        "return iu.science.effects({'': torch.stack([on, off])[..., None]}, outputs.var(0).sum().sqrt()[None])[0, 0].item()",
        "return 0.0",
        "return 1.0",
    ],
    "precision_and_recall": [
        "counts = torch.stack([(claimed & true).sum(1), claimed.sum(1), true.sum(1)], 1)\n"
        "return tuple(iu.science.ClaimScore(counts.numpy(), 1).rates())",
        "return 1.0, 1.0",
        "return 0.5, 0.5",
    ],
    "in_circuit": [
        "return activations",
        "return means.expand_as(activations)",
        "return iu.neurons.replaced(activations, means, masks)",
    ],
    "attribution": [
        "return iu.science.attributions(score, activations, None, {0: means}, 0).mean(0)",
        "return torch.zeros(activations.shape[-1]).to(activations)",
        "return (activations - means).mean((0, 1))",
    ],
    "recovered_share": [
        "return 0.9",
        "return float(circuit.mean() > empty.mean())",
        "return iu.science.faithfulness(circuit).recovered",
    ],
    "mediated_share": [
        "return iu.science.AttentionEffects([0], (intact - anew)[:, None], (intact - frozen)[:, None], None).share.item()",
        "return 0.3",
        "return 0.5",
    ],
    "interaction": [
        "return torch.zeros_like(score())",
        "return iu.science.pair_interaction(score, a, b)",
        "return score(a, b)",
    ],
    "written_by_heads": [
        "return iu.hooks.head_outputs(mixed, weight).movedim(1, 2)",
        "b, h, n, d = mixed.shape\nreturn torch.zeros(b, n, h, len(weight)).to(mixed)",
        "b, h, n, d = mixed.shape\nreturn (bias / h).expand(b, n, h, -1)",
    ],
    "ridge_with_constant": [
        "found = iu.science.ridge_map(x, y, [penalty])\nreturn found.weight.to(x), found.bias.to(x)",
        "return torch.zeros(x.shape[1], y.shape[1]).to(x), y.mean(0)",
        "return torch.eye(x.shape[1])[:, : y.shape[1]].to(x), y.mean(0)",
    ],
    "explained_share": [
        "seen = iu.moments.GroupMeans(7)\nseen.update(outputs[:, None], labels)\nreturn seen.explained_variance(False).item()",
        "return 0.5",
        "return 1.0",
    ],
    "into_register": [
        "with iu.science.register_token(activations, [(0, n) for n in neurons]):\n    return activations",
        "return activations",
        "return torch.zeros_like(activations)",
    ],
    "noise_moment": [
        "return iu.science.weight_moments(w_v, [0])[0, 0].second",
        "return torch.eye(m.shape[1]).to(m)",
        "return m.T @ m",
    ],
}  # fmt: skip
