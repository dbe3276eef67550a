"""The tables of chapter 4's second half measure what they say."""

import pytest
import torch
from torch import nn

from interp_utils import rosetta
from interp_utils.rosetta import experiments, quality


def judged(images):  # what an edit did to them
    return {"level": images.mean((1, 2, 3)), "spread": images.std((1, 2, 3))}


class Square(nn.Module):
    """z [B, 3] -> an image of one colour, [B, 3, 64, 64]."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.conv = nn.Identity()

    def forward(self, z):
        return self.conv(self.gain * z[:, :, None, None].expand(-1, -1, 64, 64)).tanh()


def test_tables_keep_each_image_and_come_back_from_a_file(tmp_path):
    drawing = rosetta.Generator(Square().eval().requires_grad_(False), ["conv"], rosetta.truncated_latents(3), name="square")
    seeing = rosetta.UnitModel(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh()).eval().requires_grad_(False), ["1"], size=64, name="see"
    )
    match, own = rosetta.correlate(drawing, [seeing, drawing], drawing.sample(30))
    targets = drawing(*drawing.sample(3, seed=5))[0].detach()
    guided = {"plain": [], "guided": [(seeing, rosetta.matched_pairs(match))]}
    table = experiments.inversion_table(
        drawing, guided, targets, drawing.sample(3, seed=6), seeing, quality.perceptual(seeing), batch_size=2, steps=60, lr=0.1
    )
    alone = experiments.inversion_table(
        drawing,
        {"plain": []},
        targets[2:],
        (drawing.sample(3, seed=6)[0][2:],),
        seeing,
        quality.perceptual(seeing),
        steps=60,
        lr=0.1,
    )
    assert list(table) == ["plain", "guided"] and table["plain"]["PSNR"].shape == (3,)
    torch.testing.assert_close(table["plain"]["PSNR"][2:], alone["plain"]["PSNR"], atol=0.05, rtol=0)
    assert not torch.equal(table["plain"]["PSNR"], table["guided"]["PSNR"])
    blank = rosetta.UnitModel(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh()).eval().requires_grad_(False), ["1"], size=64, name="blank"
    )
    control = {"untrained": [(blank, rosetta.matched_pairs(rosetta.correlate(drawing, blank, drawing.sample(30))))]}
    given = (targets, drawing.sample(3, seed=6), seeing, quality.perceptual(seeing))
    table |= experiments.inversion_table(drawing, control, *given, batch_size=2, steps=60, lr=0.1)
    table |= experiments.inversion_table(drawing, {"plain, for longer": []}, *given, batch_size=2, steps=180, lr=0.1)
    assert not torch.equal(table["plain, for longer"]["PSNR"], table["plain"]["PSNR"])
    assert not torch.equal(table["untrained"]["PSNR"], table["guided"]["PSNR"])
    experiments.save_results(table, tmp_path / "table.safetensors")
    again = experiments.load_results(tmp_path / "table.safetensors")
    assert torch.equal(again["guided"]["SSIM"], table["guided"]["SSIM"]) and set(again) == set(table)
    with pytest.raises(FileNotFoundError, match="git checkout -- data"):
        experiments.load_results(tmp_path / "none.safetensors")

    calls, distance = [], quality.perceptual(seeing)

    def stopping(a, b):
        calls.append(1)
        if len(calls) == 4:  # the second condition of the second batch
            raise KeyboardInterrupt
        return distance(a, b)

    arguments = drawing, guided, targets, drawing.sample(3, seed=6), seeing
    kept = {"finished": tmp_path / "new" / "part.safetensors", "batch_size": 2, "steps": 60, "lr": 0.1}
    with pytest.raises(KeyboardInterrupt):
        experiments.inversion_table(*arguments, stopping, **kept)
    resumed = experiments.inversion_table(*arguments, stopping, **kept)
    assert len(calls) == 5, "what was done is not done again"
    assert all(torch.equal(resumed[name][m], table[name][m]) for name in resumed for m in table[name])

    changes = {"shift": rosetta.shift(0.25)}
    sets = {"all": rosetta.own_pairs(own, [0, 1, 2])}
    latents = drawing.sample(2)
    edits = experiments.edit_table(drawing, sets, latents, changes, judged, pixels=True, steps=2, lr=0.1)
    experiments.save_results(edits, tmp_path / "edits.safetensors")
    more = {**changes, "zoom": rosetta.zoom(2)}
    first, both = (
        experiments.edit_table(drawing, sets, latents, each, judged, steps=2, lr=0.1, finished=tmp_path / "kept.safetensors")
        for each in (changes, more)
    )
    torch.testing.assert_close(first["shift, all"]["level"], edits["shift, all"]["level"])
    assert set(both) == {"shift, all", "zoom, all"} == set(experiments.load_results(tmp_path / "kept.safetensors"))
    assert set(edits) == {"shift, all", "shift, pixels"} and set(edits["shift, all"]) == {"level", "spread"}
