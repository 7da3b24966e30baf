"""The only reader of params.yaml: complete, typed and frozen before any work begins.

A key that is missing, unknown or of the wrong kind is an error that names it and the nearest known one. A stage asks for the
sections that dvc.yaml lists for it and gets nothing else, so no result can depend on a parameter that DVC does not watch:

    params = load_params(("seed", "stems.bass"))
    params.stems["bass"].programs       # fine
    params.evaluate.bootstrap_draws     # LookupError: not declared
"""

import dataclasses
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemscribe.errors import UsageError
from stemscribe.strict_yaml import Requirement, parse, read_yaml, requirement

TOKENS, FRAMES = "tokens", "frames"
HEADS = (TOKENS, FRAMES)
"""The two ways to read notes from a model: its token decoder, and its frame head, which not every model has."""


@dataclass(frozen=True)
class CorpusParams:
    """Which corpus the graph runs on: a file of that name in data/sources describes it."""

    name: str
    seed: int  # decides which songs test and validate, where the corpus does not; not the seed of training


@dataclass(frozen=True)
class DemoParams:
    """The small corpus of real songs that `corpus.name: demo` renders."""

    songs: int
    seconds: float  # of each song, at most
    validation: int  # songs in this split
    test: int  # songs in this split
    voiced_share: float  # of the songs in each split that get a re-voiced stem if they have none of their own


@dataclass(frozen=True)
class PrepareParams:
    """How audio is laid out for random access."""

    sample_rate: int  # Hz
    shard_megabytes: int


@dataclass(frozen=True)
class BaseParams:
    """Where the generalist comes from, and what is done to it before anybody learns from it."""

    source: str  # `small` (shipped), a model folder, a Lightning checkpoint, or the address of one
    sha256: str  # that the source must have; empty for any
    frame_head: str  # `keep` what the model has, or `add` a fresh one if it has none


@dataclass(frozen=True)
class StemTuning:
    """What fine-tuning takes from the stem itself."""

    learning_rate: float  # peak
    steps: int  # at most


@dataclass(frozen=True)
class StemParams:
    """A stem is a set of General MIDI programs (128: drums, 100 and 101: singing)."""

    programs: tuple[int, ...]
    finetune: StemTuning


@dataclass(frozen=True)
class AugmentParams:
    """Changes to a training crop that leave its notes true."""

    transpose: int  # semitones up or down at most, by resampling; drums change tempo and pitch alike
    gain_db: float  # of each source, up or down at most
    noise_db: float  # loudest white noise, relative to full scale


@dataclass(frozen=True)
class StemAugmentParams(AugmentParams):
    """What else may happen to a stem's crop."""

    drop_source: float  # probability that a source of a stem with several is left out
    bleed_share: float  # of the crops in which the rest of the mix is faintly heard, as after a separation
    bleed_db: float  # loudest level of that rest before its gain; the faintest is BLEED_RANGE_DB below


@dataclass(frozen=True)
class LearningParams:
    """What fine-tuning and the training of the small base (`pretraining/params.py`) have in common."""

    batch_size: int  # segments
    warmup_steps: int
    weight_decay: float
    gradient_clip: float  # global norm
    validate_every: int  # steps
    validation_seconds: float  # of each validation track
    frame_head_weight: float
    voice_weight: float  # inside the frame head's loss, of telling voices from instruments, against onsets
    alignment_weight: float
    shift_smoothing: tuple[float, float, float]  # target mass on the tick itself, each first and each second neighbour


@dataclass(frozen=True)
class FinetuneParams(LearningParams):
    """Fine-tuning settings that all stems share."""

    channels_per_crop: int  # taught at a time, where a stem has more
    threshold_seconds: float  # of each validation track, for choosing the thresholds of the frame head when a training is over
    patience: int  # validations without a better score
    shares: tuple[float, ...]  # of the way from the base to the best weights, of which the best in validation is kept
    freeze: str  # what does not learn: none, conv (the convolutions) or encoder (convolutions and encoder)
    augment: StemAugmentParams


@dataclass(frozen=True)
class SeparateParams:
    """How the test mixes are taken apart: `oracle` (the true stem) or `bleed` (simulated bleed of the rest)."""

    method: str
    bleed_db: float  # level of the rest of the mix; only `bleed` uses it


@dataclass(frozen=True)
class PredictParams:
    """Which of the `HEADS` the headline speaks of; the other is predicted and scored beside it."""

    decode: str
    overlap: bool  # whether the frame head hears test songs in segments that overlap by half


@dataclass(frozen=True)
class EvaluateParams:
    """Matching tolerances and statistics."""

    onset_tolerance: float  # seconds
    offset_ratio: float  # of the reference duration, at least onset_tolerance
    bootstrap_draws: int


@dataclass(frozen=True)
class PocParams:
    """When an isolated stem is worth a specialist."""

    minimum_gain: float  # onset F1, stem minus mix


@dataclass(frozen=True)
class Params:
    """All of params.yaml."""

    seed: int
    corpus: CorpusParams
    demo: DemoParams
    prepare: PrepareParams
    base: BaseParams
    stems: Mapping[str, StemParams]
    finetune: FinetuneParams
    separate: SeparateParams
    predict: PredictParams
    evaluate: EvaluateParams
    poc: PocParams


class _Undeclared:
    """Stands where a stage may not look."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self, *_: Any) -> Any:
        raise LookupError(f"this stage reads {self._name!r} without declaring it; add it to `reads` and to dvc.yaml")

    __getattr__ = __getitem__ = __iter__ = __len__ = __index__ = __float__ = __bool__ = _refuse


def load_params(reads: Iterable[str], path: str | Path = "params.yaml") -> Params:
    """Read and check all of params.yaml, and show only what was asked for.

    Args:
        reads: dotted names as in dvc.yaml: a section (`evaluate`) or one field of it (`predict.decode`), a stem
            (`stems.bass`) or one field of it (`stems.bass.programs`).
        path: the parameter file.
    Raises:
        UsageError: if the file is unreadable, or a key is missing, unknown or of the wrong kind.
    """
    return _restrict(_check(parse(Params, read_yaml(path), str(path)), str(path)), tuple(reads), str(path))


def check_seed(seed: int, name: str, require: Requirement) -> None:
    """Refuse a seed that some library would."""
    require(0 <= seed < 2**31, name, "a whole number from 0 to 2147483647")


def check_learning(learning: LearningParams, name: str, require: Requirement) -> None:
    """Refuse a training that cannot be.

    Args:
        learning: its settings.
        name: their section.
        require: what refuses, see `requirement`.
    """
    for field in ("batch_size", "validate_every"):
        require(getattr(learning, field) >= 1, f"{name}.{field}", "at least 1")
    for field in ("warmup_steps", "weight_decay", "frame_head_weight", "voice_weight", "alignment_weight"):
        require(getattr(learning, field) >= 0, f"{name}.{field}", "at least 0")
    for field in ("gradient_clip", "validation_seconds"):
        require(getattr(learning, field) > 0, f"{name}.{field}", "a number above 0")
    centre, first, second = learning.shift_smoothing
    smooth = min(centre, first, second) >= 0 and abs(centre + 2 * first + 2 * second - 1) < 1e-6
    require(smooth, f"{name}.shift_smoothing", "shares a, b, c of at least 0 with a + 2b + 2c = 1")


def check_augment(augment: AugmentParams, name: str, require: Requirement) -> None:
    """Refuse changes that no crop can undergo; arguments as of `check_learning`."""
    require(0 <= augment.transpose <= 12, f"{name}.transpose", "0 to 12 semitones")
    require(augment.gain_db >= 0, f"{name}.gain_db", "at least 0 dB")
    require(augment.noise_db <= 0, f"{name}.noise_db", "a level of 0 dB or below")


def _check(params: Params, where: str) -> Params:
    """Refuse values that are of the right kind but make no sense."""
    require = requirement(where)
    demo, tuning, prepare = params.demo, params.finetune, params.prepare
    for name, seed in (("seed", params.seed), ("corpus.seed", params.corpus.seed)):
        check_seed(seed, name, require)
    require(bool(params.corpus.name) and Path(params.corpus.name).name == params.corpus.name, "corpus.name", "a plain name")
    require(demo.songs > demo.validation + demo.test, "demo.songs", "more songs than validation and test take together")
    require(demo.validation >= 1 and demo.test >= 1, "demo.validation and demo.test", "at least one song each")
    require(demo.seconds >= 5, "demo.seconds", "at least 5 seconds")
    require(0 <= demo.voiced_share <= 1, "demo.voiced_share", "a share from 0 to 1")
    require(prepare.sample_rate == 16000, "prepare.sample_rate", "16000, the rate that YourMT3+ hears")
    require(prepare.shard_megabytes >= 1, "prepare.shard_megabytes", "at least 1")
    base = params.base
    require(bool(base.source.strip()), "base.source", "small, a path or an address")
    is_digest = re.fullmatch("[0-9a-f]{64}", base.sha256) is not None
    require(is_digest or not base.sha256, "base.sha256", 'all 64 hexadecimal digits in small letters, or ""')
    require(base.frame_head in ("keep", "add"), "base.frame_head", "keep or add")
    for name, stem in params.stems.items():
        require(name.isidentifier() and name != "mix", f"stems.{name}", "a plain name other than mix")
        require(bool(stem.programs), f"stems.{name}.programs", "at least one program")
        require(all(0 <= p <= 128 for p in stem.programs), f"stems.{name}.programs", "programs from 0 to 128 (drums)")
        require(stem.finetune.learning_rate > 0, f"stems.{name}.finetune.learning_rate", "a number above 0")
        require(stem.finetune.steps >= 1, f"stems.{name}.finetune.steps", "at least 1")
    check_learning(tuning, "finetune", require)
    check_augment(tuning.augment, "finetune.augment", require)
    for field in ("channels_per_crop", "patience"):
        require(getattr(tuning, field) >= 1, f"finetune.{field}", "at least 1")
    require(tuning.freeze in ("none", "conv", "encoder"), "finetune.freeze", "none, conv or encoder")
    require(tuning.threshold_seconds > 0, "finetune.threshold_seconds", "a number above 0")
    proper = tuning.shares and all(0 <= share <= 1 for share in tuning.shares)
    require(bool(proper), "finetune.shares", "at least one share from 0 (the base) to 1 (the best weights)")
    require(0 <= tuning.augment.drop_source < 1, "finetune.augment.drop_source", "a probability below 1")
    require(0 <= tuning.augment.bleed_share <= 1, "finetune.augment.bleed_share", "a share from 0 to 1")
    require(tuning.augment.bleed_db <= 0, "finetune.augment.bleed_db", "a level of 0 dB or below")
    require(params.separate.method in ("oracle", "bleed"), "separate.method", "oracle or bleed")
    require(params.separate.bleed_db <= 0, "separate.bleed_db", "a level of 0 dB or below")
    require(params.predict.decode in HEADS, "predict.decode", " or ".join(HEADS))
    require(params.evaluate.onset_tolerance > 0, "evaluate.onset_tolerance", "seconds above 0")
    require(params.evaluate.offset_ratio > 0, "evaluate.offset_ratio", "a ratio above 0")
    require(params.evaluate.bootstrap_draws >= 100, "evaluate.bootstrap_draws", "at least 100")
    return params


def _restrict(params: Params, reads: tuple[str, ...], where: str) -> Params:
    wanted: dict[str, list[str]] = {}  # section -> fields that are named
    for name in reads:
        section, *fields = name.split(".")
        wanted.setdefault(section, []).extend(fields)
    unknown = set(wanted) - {field.name for field in dataclasses.fields(params)}
    if unknown:
        raise LookupError(f"no section {sorted(unknown)[0]!r} in {where}")
    shown: dict[str, Any] = {
        field.name: getattr(params, field.name) if field.name in wanted else _Undeclared(field.name)
        for field in dataclasses.fields(params)
    }
    for section, fields in wanted.items():
        if section not in (*reads, "stems"):
            shown[section] = _restrict_fields(shown[section], fields, section)
    if "stems" not in reads:
        shown["stems"] = types.MappingProxyType(_restrict_stems(params.stems, reads, where))
    return Params(**shown)


def _restrict_fields(section: Any, fields: Sequence[str], name: str) -> Any:
    known = [field.name for field in dataclasses.fields(section)]
    if unknown := set(fields) - set(known):
        raise LookupError(f"no field {sorted(unknown)[0]!r} in {name}")
    return type(section)(
        **{each: getattr(section, each) if each in fields else _Undeclared(f"{name}.{each}") for each in known}
    )


def _restrict_stems(stems: Mapping[str, StemParams], reads: tuple[str, ...], where: str) -> dict[str, Any]:
    visible: dict[str, dict[str, Any]] = {}
    for name in reads:
        if not name.startswith("stems."):
            continue
        _, stem, *field = name.split(".")
        if stem not in stems:
            raise UsageError(f"no stem {stem!r} in {where}; stems are {', '.join(stems)}")
        known = [each.name for each in dataclasses.fields(StemParams)]
        if len(field) > 1 or not set(field) <= set(known):
            raise UsageError(f"no stem {name.removeprefix('stems.')!r} in {where}; stems are {', '.join(stems)}")
        fields = field or known
        visible.setdefault(stem, {}).update({each: getattr(stems[stem], each) for each in fields})
    hidden = {each.name: _Undeclared(f"stems.*.{each.name}") for each in dataclasses.fields(StemParams)}
    return {stem: StemParams(**{**hidden, **fields}) for stem, fields in visible.items()}
