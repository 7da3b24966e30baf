"""The settings in pretrain/params.yaml; read by `config`, shaped here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stemscribe.config import AugmentParams, LearningParams, check_augment, check_learning, check_seed
from stemscribe.strict_yaml import Requirement, parse, read_yaml, requirement
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
class TrainParams(LearningParams):
    """The optimisation."""

    steps: int
    processes: int  # that share each batch on a CPU; a GPU takes it as a whole
    learning_rate: float
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
    params, require = parse(PretrainParams, read_yaml(path), str(path)), requirement(str(path))
    check_seed(params.seed, "seed", require)
    require(0 <= params.train.frames_first <= 1, "train.frames_first", "a share from 0 to 1")
    for name, train in (("train", params.train), ("refine", params.refine)):
        _check(train, name, require)
    require(params.thresholds.seconds > 0, "thresholds.seconds", "a number above 0")
    songs = params.songs
    for field in ("voiced_share", "recast_share"):
        require(0 <= getattr(songs, field) <= 1, f"songs.{field}", "a share from 0 to 1")
    for field in ("takes", "most_voices", "shard_megabytes"):
        require(getattr(songs, field) >= 1, f"songs.{field}", "at least 1")
    require(songs.seconds >= 5, "songs.seconds", "at least 5 seconds")
    weighty = bool(songs.soundfonts) and min(songs.soundfonts.values()) > 0
    require(weighty, "songs.soundfonts", "a weight above 0 for each; leave out what is not to be used")
    return params


def _check(train: TrainParams, name: str, require: Requirement) -> None:
    check_learning(train, name, require)
    check_augment(train.augment, f"{name}.augment", require)
    for field in ("steps", "processes"):
        require(getattr(train, field) >= 1, f"{name}.{field}", "at least 1")
    require(train.learning_rate > 0, f"{name}.learning_rate", "a number above 0")
    require(train.batch_size % train.processes == 0, f"{name}.batch_size", f"a multiple of {name}.processes")
    mixture, augment = train.mixture, train.augment
    for field, share in vars(mixture).items():
        require(not isinstance(share, float) or 0 <= share <= 1, f"{name}.mixture.{field}", "a share from 0 to 1")
    together = "drums and voices to be shares of the same crops, together at most 1"
    require(mixture.drums + mixture.voices <= 1, f"{name}.mixture", together)
    taught = 2 <= mixture.written <= mixture.channels <= NUM_CHANNELS
    require(taught, f"{name}.mixture", f"written and channels from 2 to {NUM_CHANNELS}, written no more than channels")
    for field in ("filter_share", "room_share"):
        require(0 <= getattr(augment, field) <= 1, f"{name}.augment.{field}", "a share from 0 to 1")
    for field in ("filter_db", "room_seconds"):
        require(getattr(augment, field) >= 0, f"{name}.augment.{field}", "at least 0")
    require(augment.room_db <= 0, f"{name}.augment.room_db", "a level of 0 dB or below")
