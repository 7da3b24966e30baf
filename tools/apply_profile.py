"""Write a profile's values over those in params.yaml; everything else there, comments included, stays as it is.

    python tools/apply_profile.py profiles/ci.yaml

A profile holds a part of params.yaml and no key that params.yaml lacks.
"""

import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stemscribe.atomic import atomic_file
from stemscribe.config import load_params
from stemscribe.errors import StemscribeError, UsageError
from stemscribe.strict_yaml import read_yaml

PARAMS = Path("params.yaml")


def overlay(settings: Any, changes: Any, where: str) -> None:
    """Put the leaves of `changes` into `settings`, in place.

    Raises:
        UsageError: if `settings` has no such key.
    """
    for key, value in changes.items():
        if key not in settings:
            raise UsageError(f"{where}: no {key!r} in {PARAMS}; a profile changes values and adds none")
        if isinstance(value, dict) and isinstance(settings[key], dict):
            overlay(settings[key], value, f"{where}.{key}")
        else:
            settings[key] = value


def main(profile: str) -> None:
    """Apply one profile to params.yaml in the current folder, unless the result makes no sense."""
    yaml = YAML()
    yaml.width = 128
    settings = yaml.load(PARAMS.read_text(encoding="utf-8"))
    overlay(settings, read_yaml(profile), profile)
    with atomic_file(PARAMS) as partial:
        yaml.dump(settings, partial)
        load_params(("seed",), partial)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/apply_profile.py PROFILE.yaml")
    try:
        main(sys.argv[1])
    except StemscribeError as error:
        sys.exit(f"apply_profile: {error}")
