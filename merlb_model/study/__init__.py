"""The study: what the fusions can and cannot do, by claims registered before the runs (docs/study.md)."""
