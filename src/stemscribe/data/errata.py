"""What is known to be wrong with a corpus, applied: data/sources/<corpus>.yaml decides, not this code."""

from stemscribe.corpora.sources import Errata


def octave_correction(errata: Errata, program: int, plugin: str) -> int:
    """Semitones from the written to the sounding pitch of a stem; the first rule that fits decides.

    In Slakh2100 the basses (programs 32-39) are written an octave above what sounds, except with one plugin.
    """
    fitting = (rule for rule in errata.octave if program in rule.programs and plugin not in rule.except_plugins)
    return next((rule.semitones for rule in fitting), 0)


def reason_to_exclude(errata: Errata, track: str, stem: str) -> str:
    """Why a stem must not be used; empty when it may."""
    return next((each.reason for each in errata.excluded_stems if (each.track, each.stem) == (track, stem)), "")
