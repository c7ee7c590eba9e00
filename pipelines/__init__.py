"""The drivers that run the stages elsewhere than on a laptop."""
