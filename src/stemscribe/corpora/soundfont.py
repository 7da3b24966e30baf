"""The soundfont that renders the demo: pretty_midi's own, found where that package is installed."""

import importlib.util
from pathlib import Path

from stemscribe.atomic import sha256_file
from stemscribe.corpora.sources import SoundFont
from stemscribe.errors import DataError


def find_soundfont(soundfont: SoundFont) -> Path:
    """The file that a package brought along.

    Raises:
        DataError: if the package does not hold it, or it is another version of the file.
    """
    spec = importlib.util.find_spec(soundfont.package)
    places = spec.submodule_search_locations if spec else None
    path = Path(places[0], soundfont.file) if places else Path(soundfont.file)
    way_out = "install the versions that requirements.lock names"
    if not path.is_file():
        raise DataError(f"no {soundfont.file} in the package {soundfont.package}; {way_out}")
    if sha256_file(path) != soundfont.sha256:
        raise DataError(f"{path} is not the soundfont that was described (sha256 differs); {way_out}")
    return path
