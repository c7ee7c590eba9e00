"""Scores, their intervals, calibration and reports."""

from merlb_model import nn

__all__ = ["nn"]  # first of all, so that TensorFlow starts without its noise
