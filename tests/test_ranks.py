from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from deepspec._ranks import joined


def test_processes_wait_for_a_long_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda backend, **options: given.update(options)
    )
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with joined(torch.device("cpu")) as ranks:
        assert (ranks.rank, ranks.count) == (1, 2)
    # NCCL gives up after 10 minutes unless told otherwise.
    assert given["timeout"] >= timedelta(hours=12)
