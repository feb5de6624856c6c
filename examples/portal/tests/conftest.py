"""What the tests start, and what ends it again whatever happens."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import OPSHOOK, Fake, Ops, Portal, Script


@pytest.fixture
def stopping() -> Iterator[list[Any]]:
    """What has a `stop`, stopped the other way round."""
    started: list[Any] = []
    yield started
    for running in reversed(started):
        running.stop()


@pytest.fixture
def ops(tmp_path: Path, stopping: list[Any]) -> Callable[..., Ops]:
    if not OPSHOOK.exists():
        pytest.fail("this test runs opshook: first build it with cargo build --workspace", pytrace=False)

    def start(**settings: str) -> Ops:
        made = Ops(tmp_path / "ops", **settings)
        stopping.append(made)
        return made.start()

    return start


@pytest.fixture
def portal(tmp_path: Path, stopping: list[Any]) -> Callable[..., Portal]:
    def start(url: str, **options: Any) -> Portal:
        made = Portal(tmp_path / "portal", url, **options)
        stopping.append(made.process)
        return made

    return start


@pytest.fixture
def fake(stopping: list[Any]) -> Callable[[Script], Fake]:
    def start(script: Script) -> Fake:
        made = Fake(script)
        stopping.append(made)
        return made

    return start
