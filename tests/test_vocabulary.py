"""The numbers that the published weights were trained with."""

from stemscribe import vocabulary as v

BASS, DRUMS, VOICE = range(32, 40), [128], [52, 53, 54, 85, 91, 100, 101]


def test_token_ranges_are_the_published_ones():
    assert (v.PAD, v.EOS, v.UNK, v.SHIFT_0) == (0, 1, 2, 3)
    assert (v.PITCH_0, v.VELOCITY_0, v.TIE, v.PROGRAM_0, v.DRUM_0, v.VOCABULARY_SIZE) == (209, 337, 339, 340, 468, 596)


def test_the_longest_shift_covers_one_segment():
    segment_seconds = 32767 / 16000
    assert segment_seconds * 100 < v.MAX_SHIFT < segment_seconds * 100 + 1


def test_classes_are_named_after_their_first_program():
    assert [v.program_token_class(program) for program in (1, 5, 35, 36, 44, 45, 59, 72, 100)] == [
        0, 2, 32, 33, 48, 48, 56, 73, 100,
    ]  # fmt: skip


def test_effects_keep_their_program_and_have_no_channel():
    effects = [*range(96, 100), *range(102, 128)]
    assert [v.program_token_class(program) for program in effects] == effects
    assert {v.channel_of(program) for program in effects} == {None}


def test_every_instrument_has_one_class_inside_one_channel():
    members = [program for _, group in v.PROGRAM_CLASSES for program in group]
    assert sorted(members) == [*range(96), 100, 101]
    for _, group in v.PROGRAM_CLASSES:
        assert len({v.channel_of(program) for program in group}) == 1


def test_there_are_36_classes_and_13_channels():
    assert len(v.PROGRAM_CLASSES) == 36
    assert v.NUM_CHANNELS == len(v.CHANNEL_NAMES) == 13


def test_stems_find_their_channels():
    assert v.channels_of(BASS) == (4,)
    assert v.channels_of(DRUMS) == (12,)
    assert v.channels_of(VOICE) == (5, 9, 10, 11)
    assert v.channels_of(set(range(96)) - {*BASS, *VOICE}) == (0, 1, 2, 3, 5, 6, 7, 8, 9, 10)
    assert v.channels_of([97, 120]) == ()


def test_stems_find_the_programs_of_their_predictions():
    assert v.class_programs(BASS) == {32, 33}
    assert v.class_programs(DRUMS) == {128}
    assert v.class_programs(VOICE) == {52, 80, 88, 100, 101}


def test_drums_of_one_group_share_a_pitch():
    assert [v.drum_class(pitch) for pitch in (35, 40, 44, 22, 26, 57, 2)] == [36, 38, 42, 42, 46, 49, 37]
    assert v.drum_class(80) == 80  # a triangle is in no group


def test_three_and_five_drums_agree_on_kick_snare_and_hihat():
    for pitch, drum in v.KICK_SNARE_HIHAT.items():
        assert v.FIVE_DRUMS[pitch] == drum
    assert set(v.KICK_SNARE_HIHAT.values()) == {36, 38, 42}
    assert set(v.FIVE_DRUMS.values()) == {36, 38, 42, 47, 49}


def test_every_class_has_a_name():
    assert v.DRUM_NAMES[v.drum_class(35)] == "Kick"
    assert v.PROGRAM_CLASS_NAMES[v.program_token_class(39)] == "Electric Bass"
    assert v.PROGRAM_CLASS_NAMES[128] == "Drums"
    assert len({name for name, _ in v.DRUM_CLASSES}) == len(v.DRUM_CLASSES)


def test_a_class_belongs_to_the_stem_that_has_most_of_its_programs():
    leads_and_others = [program for program in range(96) if program not in {*BASS, *VOICE}]
    assert v.own_classes(BASS) == {32, 33}
    assert v.own_classes(DRUMS) == {128}
    assert v.own_classes(VOICE) == {52, 100, 101}  # one synth lead of eight is a voice, and one pad of eight
    assert {80, 88} <= v.own_classes(leads_and_others)
    assert not v.own_classes(VOICE) & v.own_classes(leads_and_others)
