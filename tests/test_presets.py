"""What was measured in the sandbox stops a notebook there, and is only said elsewhere."""

import pytest

from interp_utils.presets import PRESETS


def test_a_finding_stops_the_sandbox_and_no_other_preset(capsys):
    PRESETS["sandbox"].finding("late layers speak", True)
    with pytest.raises(AssertionError, match="late layers speak"):
        PRESETS["sandbox"].finding("late layers speak", False)
    assert capsys.readouterr().out == "", "what holds in the sandbox is in the notebook's text"
    PRESETS["laptop"].finding("late layers speak", True)
    PRESETS["laptop"].finding("early layers speak", False)
    assert capsys.readouterr().out.splitlines() == ["on this model too: late layers speak", "not on this model: early layers speak"]
