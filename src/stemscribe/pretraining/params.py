"""The settings in pretrain/params.yaml; read by `config`, shaped here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stemscribe.config import AugmentParams, parse, read_yaml
from stemscribe.errors import UsageError
from stemscribe.vocabulary import NUM_CHANNELS


@dataclass(frozen=True)
class SongParams:
    """What the base is taught with: songs that are none of the demo's validation and test songs, in several takes each."""

    songbooks: tuple[str, ...]  # beside the songs of the demo's own wheel
    takes: int  # of each song, each with a part, a cast and timbres of its own
    seconds: float  # of each take, at most
    voiced_share: float  # of the takes in which voices sing parts that were written for others
    most_voices: int  # parts re-voiced in a take, at most
    recast_share: float  # of the other pitched parts that are played by another instrument of the same family
    soundfonts: Mapping[str, float]  # how often each is drawn, relative to the others that can play the part
    shard_megabytes: int


@dataclass(frozen=True)
class MixtureParams:
    """What a crop consists of."""

    drums: float  # share of crops drawn for drums; the other channels share what is left by how many songs they have
    voices: float  # share of crops drawn for voices, beside those drawn for the channels on which they are written
    channels: int  # taught by a crop through the frame head
    written: int  # of them, those whose tokens are taught too, since a decoder's streams cost more
    single: float  # share of crops with one source alone, at the start of training
    single_later: float  # the same from `curriculum` on
    group: float  # share of the others that hold the sources of one stem group (bass, drums, voices, rest)
    curriculum: float  # share of the steps taught with `single`
    keep_source: float  # probability that a source stays in a full mix
    other_song: float  # share of full mixes to which sources of another song are added
    silent_channel: float  # share of crops with a silent channel among those that are written
    silence: float  # share of crops in which nothing plays at all


@dataclass(frozen=True)
class RoomAugmentParams(AugmentParams):
    """What else may happen to the sound of a crop, on the way from the instruments to the ear."""

    filter_share: float  # of the crops in which each source gets a tone of its own
    filter_db: float  # what a filter adds or takes away at most
    room_share: float  # of the crops that sound in a room
    room_seconds: float  # until the most reverberant room has lost 60 dB
    room_db: float  # loudest level of the reverberation, below the sound itself


@dataclass(frozen=True)
class TrainParams:
    """The optimisation."""

    steps: int
    batch_size: int
    processes: int  # that share each batch on a CPU; a GPU takes it as a whole
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    gradient_clip: float
    validate_every: int
    validation_seconds: float
    frame_head_weight: float
    voice_weight: float  # inside the frame head's loss: telling voices from instruments
    alignment_weight: float
    shift_smoothing: tuple[float, float, float]
    mixture: MixtureParams
    augment: RoomAugmentParams


@dataclass(frozen=True)
class ScratchParams(TrainParams):
    """The same where nothing has been learned yet."""

    frames_first: float  # share of the steps in which only encoder and frame head learn
    structured_time: bool  # whether the decoder starts with a geometry of time (`initialise_decoder`)


@dataclass(frozen=True)
class ThresholdParams:
    """On what the frame head's thresholds are chosen."""

    seconds: float  # of each validation song, at most


@dataclass(frozen=True)
class PretrainParams:
    """All of pretrain/params.yaml."""

    seed: int
    songs: SongParams
    train: ScratchParams
    refine: TrainParams  # what follows, on the weights that `train` left
    thresholds: ThresholdParams


def load_pretrain_params(path: str | Path = "params.yaml") -> PretrainParams:
    """Read and check pretrain/params.yaml.

    Raises:
        UsageError: if the file is unreadable, or a key is missing, unknown or of the wrong kind.
    """
    params = parse(PretrainParams, read_yaml(path), str(path))
    if not 0 <= params.train.frames_first <= 1:
        raise UsageError(f"{path}: train.frames_first lies between 0 and 1")
    for name, train in (("train", params.train), ("refine", params.refine)):
        _check(train, f"{path}: {name}")
    if not params.thresholds.seconds > 0:
        raise UsageError(f"{path}: thresholds.seconds is {params.thresholds.seconds:g}; give more than 0")
    songs = params.songs
    if not all(0 <= share <= 1 for share in (songs.voiced_share, songs.recast_share)):
        raise UsageError(f"{path}: songs.voiced_share and songs.recast_share lie between 0 and 1")
    if min(songs.takes, songs.most_voices, songs.shard_megabytes) < 1 or songs.seconds < 5:
        raise UsageError(f"{path}: songs: takes, most_voices and shard_megabytes are at least 1, seconds at least 5")
    if min(songs.soundfonts.values()) <= 0:
        raise UsageError(f"{path}: songs.soundfonts: expected a weight above 0 for each; leave out what is not to be used")
    return params


def _check(train: TrainParams, where: str) -> None:
    mixture, augment = train.mixture, train.augment
    if not all(0 <= value <= 1 for value in vars(mixture).values() if isinstance(value, float)):
        raise UsageError(f"{where}.mixture: shares lie between 0 and 1")
    if mixture.drums + mixture.voices > 1:
        raise UsageError(f"{where}.mixture: drums and voices are shares of the same crops, together at most 1")
    if not 2 <= mixture.written <= mixture.channels <= NUM_CHANNELS:
        raise UsageError(f"{where}.mixture: written and channels lie between 2 and {NUM_CHANNELS}, written first")
    if min(train.steps, train.batch_size, train.validate_every) < 1:
        raise UsageError(f"{where}: steps, batch_size and validate_every are at least 1")
    if train.processes < 1 or train.batch_size % train.processes:
        raise UsageError(f"{where}.batch_size is a multiple of {where.rpartition(' ')[2]}.processes, which is at least 1")
    if not (0 <= augment.filter_share <= 1 and 0 <= augment.room_share <= 1):
        raise UsageError(f"{where}.augment: filter_share and room_share lie between 0 and 1")
    if augment.filter_db < 0 or augment.room_seconds < 0 or augment.room_db > 0:
        raise UsageError(f"{where}.augment: filter_db and room_seconds are at least 0, room_db at most 0")
