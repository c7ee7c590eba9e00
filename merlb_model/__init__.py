"""MERLB: valence, arousal and game event of a live broadcast, from its face, screen and audio."""

__version__ = "0.1.0"
