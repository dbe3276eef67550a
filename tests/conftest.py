"""What all tests start from. Nothing heavy is imported here: of several processes the first only deals tests out."""

import gc
import os

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    """Who runs tests imports everything now; nothing of that is garbage, so it is not looked through again."""
    gc.disable()
    if os.environ.get("INTERP_TEST_DEVICE") == "other":
        import other_device

        other_device.use()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Every test, and what it is the first to build, draws the same numbers whatever ran before it."""
    import torch

    torch.manual_seed(0)


@pytest.fixture
def tiny():
    import small_clips

    return small_clips.tiny_clip()


@pytest.fixture(scope="session")
def sandbox():
    import interp_utils as iu

    return iu.load_clip("sandbox", device="cpu")
