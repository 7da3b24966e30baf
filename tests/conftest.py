"""What all tests share."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from project_clone import Outcome, Project, whole_graph
from stemscribe import interruption, runtime
from stemscribe.corpora.sources import WheelSource, read_source
from stemscribe.corpora.wheel import fetch_wheel
from stemscribe.errors import DataError

# What the tests expect of the machine, whatever is set here; where corpora lie is for each test to say.
for name in ("raw_dir", "corpus_dir"):
    os.environ.pop(f"STEMSCRIBE_{name.upper()}", None)
os.environ |= {"STEMSCRIBE_DEVICE": "cpu", "STEMSCRIBE_WORKERS": "2", "STEMSCRIBE_SEGMENTS": str(runtime.SEGMENTS)}
# Tensors this small only make threads wait for each other, on a busy machine twenty times longer than they work.
os.environ["STEMSCRIBE_THREADS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
for name in ("NO_PROXY", "no_proxy"):  # of servers that tests start
    os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1")))
settings.register_profile("here", deadline=None)  # no test is timed
settings.load_profile("here")
REPOSITORY = Path(__file__).parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For several processes: what shares the clone of `first_run` stays together, and begins first, for it takes longest."""
    for item in items:
        group = "graph" if item.get_closest_marker("graph") else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: item.get_closest_marker("graph") is None)


@pytest.fixture(autouse=True)
def like_a_process_of_its_own() -> Iterator[None]:
    """A stage reads runtime.yaml once; one that was asked to stop ignores what comes after, until its process ends."""
    handlers = {number: signal.getsignal(number) for number in interruption.REQUESTS}
    runtime._file_settings.cache_clear()
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, Outcome]]:
    """A clone in which `make repro` ran once with the ci profile, and what it said. Nobody may change this clone."""
    source = read_source("demo", REPOSITORY / "data/sources")
    downloads = runtime.downloads_dir()
    assert isinstance(source, WheelSource)
    try:
        fetch_wheel(source.wheel, downloads if downloads.is_absolute() else REPOSITORY / downloads)
    except DataError as error:
        pytest.skip(f"the demo corpus cannot be had: {error}")
    folder = tmp_path_factory.mktemp("graph")
    yield whole_graph(folder / "project")
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def finished(first_run: tuple[Project, Outcome]) -> Project:
    """The clone of `first_run`, to look at."""
    return first_run[0]


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Iterator[Project]:
    """A copy of the finished project, to do anything with."""
    yield finished.fork(tmp_path / "project")
    shutil.rmtree(tmp_path, ignore_errors=True)
