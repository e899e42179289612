"""What every test shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The machines that run these tests are shared: an example that takes long is no failure.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("exploring", deadline=None, max_examples=300)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real images with ground truth; tests that ask for it are skipped where it is absent."""
    folder = os.environ.get("DEEPSPEC_TEST_DATA")
    if not folder:
        pytest.skip("DEEPSPEC_TEST_DATA is not set: no real images with ground truth here")
    if not Path(folder).is_dir():
        pytest.skip(f"DEEPSPEC_TEST_DATA is not a folder: {folder}")
    return Path(folder)
