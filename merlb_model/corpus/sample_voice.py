"""The sample's sound: a voice whose contour and energy can be read without knowing its pitch, over a low game sound."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from merlb_model.corpus.sample_canvas import CLIP_SECONDS, FloatArray

SAMPLE_RATE: Final = 44_100
CLIP_SAMPLES: Final = round(CLIP_SECONDS * SAMPLE_RATE)

_GLIDE_SEMITONES: Final = 6.0
"""A falling syllable goes from this far above the phrase's line to this far below, a rising one the other way."""
_PHRASE_SEMITONES: Final = 2.0
"""The phrase's own line goes the same way, this far about its middle."""


@dataclass(frozen=True)
class _Delivery:
    """How much energy sounds: seconds of a syllable and of a pause, syllables a phrase (from, to), and level."""

    syllable_seconds: tuple[float, float]
    gap_seconds: float
    syllables: tuple[int, int]
    pause_seconds: tuple[float, float]
    level_db: float


_DELIVERIES: Final = (
    _Delivery((0.32, 0.38), 0.12, (1, 3), (0.40, 0.70), -10.0),
    _Delivery((0.22, 0.26), 0.07, (3, 6), (0.22, 0.40), -5.0),
    _Delivery((0.16, 0.18), 0.02, (8, 12), (0.06, 0.12), 0.0),
)
"""At low, neutral and high energy."""


@dataclass(frozen=True)
class VoiceStyle:
    """A streamer's voice and microphone.

    Attributes:
        pitch_hz: middle of the voice.
        tract: length of the vocal tract against the average: formants are divided by it.
        breath: level of the breath noise against the voice.
        gain_db: of the microphone.
    """

    pitch_hz: float
    tract: float
    breath: float
    gain_db: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "VoiceStyle":
        pitch = float(np.exp(rng.uniform(np.log(90), np.log(260))))
        # Low voices come from long tracts, on the whole.
        tract = float(np.clip((160 / pitch) ** 0.2 * rng.uniform(0.93, 1.07), 0.8, 1.2))
        return cls(pitch, tract, float(rng.uniform(0.005, 0.03)), float(rng.uniform(-3, 3)))


_VOWELS: Final = ((730, 1090, 2440), (530, 1840, 2480), (570, 840, 2410), (440, 1020, 2240), (390, 1990, 2550))
"""First three formants in Hz of a few vowels of an average voice."""
_BANDWIDTHS: Final = (90.0, 120.0, 180.0)


def synthesise(contour: int, energy: int, style: VoiceStyle, rng: np.random.Generator) -> NDArray[np.int16]:
    """The sound of a clip: i16 (220500,), mono, 44,100 Hz.

    Args:
        contour: 0 falling, 1 flat, 2 rising.
        energy: 0 low, 1 neutral, 2 high.
        style: the streamer's.
        rng: of the clip.
    """
    delivery = _DELIVERIES[energy]
    voice = np.zeros(CLIP_SAMPLES)
    for start, seconds, line in _syllables(delivery, rng):
        first = int(start * SAMPLE_RATE)
        syllable = _syllable(contour - 1, seconds, line, style, rng)[: CLIP_SAMPLES - first]
        voice[first : first + len(syllable)] += syllable
    gain = 10 ** ((delivery.level_db + style.gain_db) / 20)
    sound = 0.22 * gain * voice + 0.012 * _game_sound(rng)
    return (np.tanh(sound) * 32000).astype(np.int16)


def _syllables(delivery: _Delivery, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Start and length in seconds of each syllable, and where it stands in its phrase: -1 (first) to 1 (last)."""
    plan: list[tuple[float, float, float]] = []
    now = rng.uniform(0.02, 0.3)
    while now < CLIP_SECONDS - 0.1:
        count = int(rng.integers(delivery.syllables[0], delivery.syllables[1] + 1))
        for line in np.linspace(-1, 1, count) if count > 1 else [0.0]:
            seconds = float(rng.uniform(*delivery.syllable_seconds))
            if now < CLIP_SECONDS - 0.1:
                plan.append((now, seconds, float(line)))
            now += seconds + delivery.gap_seconds * rng.uniform(0.7, 1.3)
        now += rng.uniform(*delivery.pause_seconds)
    return plan


def _syllable(direction: int, seconds: float, line: float, style: VoiceStyle, rng: np.random.Generator) -> FloatArray:
    """One syllable of about unit level: glottal pulses through a vowel's formants, f64 (samples,).

    It is made at a steady pitch and then played faster and slower, as a tape would be: the formants glide with the
    pitch, so that a glide shows at all frequencies and can be read where single harmonics cannot.
    """
    samples = int(seconds * SAMPLE_RATE)
    along = np.linspace(-1, 1, samples)
    semitones = direction * (_GLIDE_SEMITONES * along + _PHRASE_SEMITONES * line) + rng.normal(0, 0.5)
    tape = np.cumsum(2 ** (semitones / 12))
    steady = np.arange(int(tape[-1]) + 2)
    source = _glottal_flow_change(np.asarray(style.pitch_hz / SAMPLE_RATE * steady % 1.0, np.float64))
    source += style.breath * rng.standard_normal(steady.size)
    vowel = np.array(_VOWELS[rng.integers(len(_VOWELS))]) / style.tract
    for formant, bandwidth in zip(vowel, _BANDWIDTHS, strict=True):
        source = _resonate(source, formant, bandwidth)
    sound = np.interp(tape, steady, source)
    sound /= np.sqrt(np.mean(sound**2)) + 1e-9
    # As long a rise as a fall: the envelope must not tell one end of a syllable from the other.
    ramp = np.minimum(1.0, np.minimum(1 + along, 1 - along) / 0.3)
    return np.asarray(sound * np.sin(np.pi / 2 * ramp) ** 2)


def _glottal_flow_change(phase: FloatArray) -> FloatArray:
    """Slope of the flow through the glottis after Rosenberg (1971): opens over 0.4 of a period, shuts over 0.16."""
    opening, closing = 0.40, 0.16
    rising = np.pi / 2 / opening * np.sin(np.pi * phase / opening)
    falling = -np.pi / 2 / closing * np.sin(np.pi / 2 * (phase - opening) / closing)
    return np.where(phase < opening, rising, np.where(phase < opening + closing, falling, 0.0)) / 5


def _resonate(sound: FloatArray, formant_hz: float, bandwidth_hz: float) -> FloatArray:
    """A two-pole resonator of unit gain at 0 Hz."""
    radius = np.exp(-np.pi * bandwidth_hz / SAMPLE_RATE)
    poles = [1.0, -2 * radius * np.cos(2 * np.pi * formant_hz / SAMPLE_RATE), radius**2]
    return np.asarray(lfilter([sum(poles)], poles, sound))


def _game_sound(rng: np.random.Generator) -> FloatArray:
    """A quiet bed: low rumble, a chord that swells, a few clicks. About unit level; tells nothing of the labels."""
    seconds = np.arange(CLIP_SAMPLES) / SAMPLE_RATE
    rumble = lfilter([0.05], [1.0, -0.95], rng.standard_normal(CLIP_SAMPLES))
    root = rng.uniform(80, 200)
    chord = sum(np.sin(2 * np.pi * root * ratio * seconds + rng.uniform(0, 6)) for ratio in (1.0, 1.25, 1.5))
    swell = 0.5 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.1, 0.4) * seconds + rng.uniform(0, 6))
    bed = 2.0 * rumble + 0.4 * chord * swell
    for start in rng.uniform(0, 4.9, rng.integers(2, 7)):
        first = int(start * SAMPLE_RATE)
        fade = np.exp(-np.arange(2000) / 300)
        bed[first : first + 2000] += 3 * fade * rng.standard_normal(2000)
    return np.asarray(bed)
