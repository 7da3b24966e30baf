"""A genuine checkpoint of the reference, at small sizes, and what to expect of reading such files."""

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from stemscribe.errors import CheckpointError
from stemscribe.lightning_checkpoint import import_checkpoint
from stemscribe.model import ModelConfig

FOLDER = Path(__file__).parent / "data" / "lightning_tiny"
GENUINE = FOLDER / "last.ckpt"  # `python -m witness.lightning tiny` wrote it


@cache
def config() -> ModelConfig:
    """Of the genuine file."""
    return ModelConfig.from_json(json.loads((FOLDER / "model_config.json").read_text()))


def refuses(match: str) -> Any:
    return pytest.raises(CheckpointError, match=r"\A[^\n]*" + match + r"[^\n]*\Z")


def imports(path: Path, sizes: ModelConfig) -> dict[str, Any]:
    """Import as a model of these sizes; what is refused leaves nothing."""
    output = path.parent / "imported"
    try:
        return import_checkpoint(path, output, sizes)
    finally:
        assert not list(path.parent.glob(".*.partial"))
        if sys.exc_info()[0] is not None:
            assert not output.exists()
