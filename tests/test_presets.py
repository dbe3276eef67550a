"""What was measured in the sandbox stops a notebook there, and is only said elsewhere."""

import pytest
import torch

from interp_utils import presets
from interp_utils.presets import PRESETS


def test_a_finding_stops_the_sandbox_and_no_other_preset(capsys):
    PRESETS["sandbox"].finding("late layers speak", True)
    with pytest.raises(AssertionError, match="late layers speak"):
        PRESETS["sandbox"].finding("late layers speak", False)
    assert capsys.readouterr().out == "", "what holds in the sandbox is in the notebook's text"
    PRESETS["laptop"].finding("late layers speak", True)
    PRESETS["laptop"].finding("early layers speak", False)
    assert capsys.readouterr().out.splitlines() == ["on this model too: late layers speak", "not on this model: early layers speak"]


@pytest.mark.parametrize(
    "name, device, said",
    [("sandbox", "cpu", "nothing to download"), ("laptop", "cpu", "doctor"), ("paper", "cpu", "made for a GPU")],
)
def test_the_first_line_says_where_we_run_and_what_to_expect(name, device, said, capsys, monkeypatch):
    monkeypatch.setattr(presets, "best_device", lambda: torch.device(device))
    presets.setup(name)
    line = capsys.readouterr().out.strip()
    assert "\n" not in line and f"preset {name} on the CPU (" in line and said in line
    assert ("made for a GPU" in line) == (name == "paper")
