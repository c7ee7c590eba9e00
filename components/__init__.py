"""Kubeflow components: each a signature, one call into ``merlb_model`` and its outputs.

The functions are plain; ``pipelines/training.py`` makes components of them, because the image that
they run in is named in ``params.yaml``. Kubeflow serialises a component by the source of its function,
so that everything it uses is imported inside.
"""
