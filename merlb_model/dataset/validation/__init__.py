"""The parts of the ``validate`` stage."""
