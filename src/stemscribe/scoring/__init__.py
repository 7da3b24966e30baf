"""How well notes were found: counts that match mir_eval, drum classes, frames, silence, and what chance explains.

    counts       matched, estimated and reference items; precision, recall and F1 follow from them
    notes        onsets, onsets with offsets, pitch classes
    drums        hits by General MIDI class, five classes, kick/snare/hi-hat
    frames       sixteen looks a second at what sounds
    silence      notes reported where nothing plays
    statistics   intervals and tests over tracks
    scorecard    everything above for one track
    conditions   who heard what: base or specialist, mix or stem
    summary      scorecards over tracks: means, intervals, gains, the headline
    tables       rows for plots/ and the report
    files        the same scores for two MIDI files

Scores are of decoded notes, never of a MIDI file read back, except in `files`, which is given nothing else.
"""
