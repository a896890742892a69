"""Synthesized music: short tracks in three styles, for the demo and for tests.

The styles share keys, tempi, loudness, a bass and a shaker. They differ in timbre and rhythm: `bells` are struck
in triplets, `reeds` are blown and held over the beat, `pulses` are plucked in syncopated sixteenths. Each artist
has individual habits (register, brightness, tuning, echo) that do not predict the style: they are drawn from the
same distribution in every style.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import scipy.signal
from numpy.typing import NDArray

SAMPLE_RATE = 44100  # Hz
_SCALE = (0, 2, 3, 5, 7, 9, 10)  # semitones of the Dorian mode
_LOUDNESS = 0.1  # root mean square of a track, full scale at 1

Wave = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Habits:
    """Properties that all tracks of an artist share.

    Attributes:
        register: Transposition in semitones.
        brightness: Cutoff of a first-order low-pass filter, in Hz.
        tuning: Deviation from A = 440 Hz, in cents.
        echo: Delay of the echo, in seconds.
        wet: Amplitude of the echo, 1 for that of the dry signal.
        shaker: Amplitude of the shaker, 1 for that of the lead.
        bass: Amplitude of the bass, 1 for that of the lead.
        skips: Probability of leaving out a note, from 0 to 1.
    """

    register: int
    brightness: float
    tuning: float
    echo: float
    wet: float
    shaker: float
    bass: float
    skips: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Habits":
        """Draw the habits of an artist at random."""
        return cls(
            register=int(rng.integers(-7, 8)),
            brightness=float(rng.uniform(1500, 7000)),
            tuning=float(rng.uniform(-30, 30)),
            echo=float(rng.uniform(0.08, 0.4)),
            wet=float(rng.uniform(0, 0.45)),
            shaker=float(rng.uniform(0.02, 0.3)),
            bass=float(rng.uniform(0.1, 0.6)),
            skips=float(rng.uniform(0, 0.3)),
        )


@dataclasses.dataclass(frozen=True)
class Style:
    """Timbre and rhythm of a style.

    Attributes:
        note: Function of frequency (Hz), duration (seconds) and generator that returns float64 [samples].
        onsets: Beats in a 4/4 bar at which a note may start.
        beats: Duration of a note, in beats.
    """

    note: Callable[[float, float, np.random.Generator], Wave]
    onsets: tuple[float, ...]
    beats: float


def compose(style: Style, habits: Habits, seconds: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Synthesize one track.

    Args:
        style: Timbre and rhythm.
        habits: Habits of the artist.
        seconds: Duration of the track.
        rng: Random generator of the tempo, key and melody.

    Returns:
        float32 [samples, 2], stereo at SAMPLE_RATE, full scale at 1.
    """
    beat = 60 / rng.uniform(85, 135)
    root = 57 + int(rng.integers(0, 12)) + habits.register
    lead, bass, shaker = (np.zeros(int(seconds * SAMPLE_RATE)) for _ in range(3))
    degree = int(rng.integers(0, 7))
    for bar in range(int(seconds / beat / 4) + 1):
        for onset in style.onsets:
            degree = int(np.clip(degree + rng.integers(-3, 4), -4, 10))
            if rng.random() >= habits.skips:
                note = style.note(_frequency(root, degree, habits.tuning), style.beats * beat, rng)
                _add(lead, note * rng.uniform(0.6, 1), (4 * bar + onset) * beat)
        for half in (0, 2):
            low = _frequency(root - 24, int(rng.choice([0, 3, 4])), habits.tuning)
            _add(bass, _bass_note(low, 1.6 * beat), (4 * bar + half) * beat)
        for eighth in range(8):
            _add(shaker, _shake(rng), (4 * bar + eighth / 2) * beat)
    mono = _level(lead) + habits.bass * _level(bass) + habits.shaker * _level(shaker)
    mono = scipy.signal.lfilter(*scipy.signal.butter(1, habits.brightness, fs=SAMPLE_RATE), mono)
    delay = int(habits.echo * SAMPLE_RATE)
    echo = habits.wet * np.concatenate([np.zeros(delay), mono[:-delay]])
    stereo = np.stack([mono + 0.6 * echo, mono + echo], axis=1)
    stereo *= _LOUDNESS * rng.uniform(0.8, 1.25) / np.sqrt(np.mean(stereo**2))
    track: NDArray[np.float32] = np.clip(stereo, -1, 1).astype(np.float32)
    return track


def _bell(frequency: float, seconds: float, rng: np.random.Generator) -> Wave:
    """Return a bell note: inharmonic partials, of which the high ones decay faster."""
    t = _time(1.2)
    tone = np.zeros_like(t)
    for ratio, strength, decay in ((1, 1, 3), (2.76, 0.6, 5), (5.4, 0.35, 8), (8.93, 0.2, 12)):
        tone += strength * np.exp(-decay * t) * np.sin(2 * np.pi * frequency * ratio * t + rng.uniform(0, 6.28))
    return tone


def _reed(frequency: float, seconds: float, rng: np.random.Generator) -> Wave:
    """Return a reed note: odd harmonics with vibrato and breath noise, fading in and out."""
    t = _time(seconds)
    phase = 2 * np.pi * frequency * t + 0.8 * np.sin(2 * np.pi * rng.uniform(4.5, 6) * t)
    tone = sum((np.sin(k * phase) / k for k in (1, 3, 5, 7, 9)), start=np.zeros_like(t))
    tone += 0.04 * rng.standard_normal(len(t))
    return tone * np.sin(np.pi * np.minimum(t / seconds, 1)) ** 0.5


def _pulse(frequency: float, seconds: float, rng: np.random.Generator) -> Wave:
    """Return a plucked note: the harmonics of a narrow pulse wave, with a fast decay."""
    t = _time(seconds)
    harmonics = np.arange(1, min(24, int(9000 / frequency)) + 1)
    strengths = np.sin(np.pi * harmonics * rng.uniform(0.12, 0.3)) / harmonics
    tone = strengths @ np.sin(2 * np.pi * frequency * harmonics[:, None] * t)
    return np.asarray(tone * np.exp(-9 * t))


STYLES = {
    "bells": Style(_bell, (0, 2 / 3, 1, 5 / 3, 2, 8 / 3, 3, 11 / 3), 1.0),
    "reeds": Style(_reed, (0, 1.5, 3), 1.7),
    "pulses": Style(_pulse, (0, 0.75, 1, 1.5, 2.25, 2.5, 3, 3.75), 0.6),
}


def _bass_note(frequency: float, seconds: float) -> Wave:
    t = _time(seconds)
    return (np.sin(2 * np.pi * frequency * t) + 0.3 * np.sin(4 * np.pi * frequency * t)) * np.exp(-2 * t)


def _shake(rng: np.random.Generator) -> Wave:
    t = _time(0.06)
    return np.diff(rng.standard_normal(len(t) + 1)) * np.exp(-60 * t)


def _frequency(root: int, degree: int, cents: float) -> float:
    """Return the frequency in Hz of a degree of the scale.

    Args:
        root: MIDI note of the tonic.
        degree: Degree of the scale, 0 for the tonic; may be negative.
        cents: Deviation from A = 440 Hz.
    """
    octave, step = divmod(degree, len(_SCALE))
    return float(440 * 2 ** ((root + 12 * octave + _SCALE[step] - 69 + cents / 100) / 12))


def _time(seconds: float) -> Wave:
    return np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def _level(wave: Wave) -> Wave:
    return wave / max(float(np.sqrt(np.mean(wave**2))), 1e-9)


def _add(track: Wave, note: Wave, start: float) -> None:
    """Mix a note into a track in place, cut off at the end of the track; `start` is in seconds."""
    section = track[int(start * SAMPLE_RATE) :][: len(note)]
    section += note[: len(section)]
