"""These rooms look at the first, smaller world."""

import pytest

import interp_utils as iu


@pytest.fixture(scope="session")
def sandbox() -> iu.Clip:
    return iu.load_clip("sandbox-first", device="cpu")
