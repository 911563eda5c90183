"""Small architectures to distill into: ``build(entry, width, depth, multiple) → features``.

``entry`` is the Keras input, an image (high, wide, channels) or a signal (long, channels) with
its batch; ``features`` are one row a sample. Weights are set by the caller.
"""
