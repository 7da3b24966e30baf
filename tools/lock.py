"""Write requirements.lock: exact versions of everything that pyproject.toml's dependencies pull in, as installed here.

    python tools/lock.py > requirements.lock

Only names and versions are written, so the file is the same wherever the packages came from. Tools for development and the DVC
remotes stand in the lists below, because a user of the package does not need them. tinysoundfont is not among them: the
Makefile installs it without what its wheel asks for.
"""

import re
import tomllib
from importlib import metadata
from pathlib import Path

DEVELOPMENT = ("hypothesis", "mypy", "pytest", "pytest-xdist", "ruff", "ruamel.yaml", "setuptools", "types-PyYAML")
REMOTES = ("dvc-s3", "dvc-ssh", "dvc-webdav")
FASTER = ("ruamel.yaml.clib",)  # with it DVC parses its YAML in C: a `dvc repro` that finds nothing to do takes a third less


def name_of(requirement: str) -> str:
    """Distribution name of a requirement, normalised (PEP 503)."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def needs(name: str, extras: frozenset[str]) -> list[tuple[str, frozenset[str]]]:
    """What an installed distribution requires here, as (name, extras)."""
    from packaging.requirements import Requirement

    found = []
    for text in metadata.requires(name) or ():
        requirement = Requirement(text)
        chosen = ("", *extras)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in chosen):
            found.append((requirement.name, frozenset(requirement.extras)))
    return found


def closure(roots: list[str]) -> dict[str, str]:
    """Name and version of the roots and of all they need."""
    waiting = [(root, frozenset[str]()) for root in roots]
    seen: set[tuple[str, frozenset[str]]] = set()
    versions: dict[str, str] = {}
    while waiting:
        name, extras = waiting.pop()
        if (name_of(name), extras) in seen:
            continue
        seen.add((name_of(name), extras))
        try:
            # A local label such as +cpu names a build, which each machine chooses for itself.
            versions[name_of(name)] = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            continue  # an optional part for another platform
        waiting.extend(needs(name, extras))
    return versions


if __name__ == "__main__":
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    direct = [name_of(requirement) for requirement in project["dependencies"]]
    locked = closure([*direct, *REMOTES, *FASTER, *DEVELOPMENT])
    print("# Exact versions of the whole environment: `make env` installs them, `python tools/lock.py` prints them anew.")
    for package, version in sorted(locked.items()):
        print(f"{package}=={version}")
