"""Keras to Keras: one compression technique a module, ``apply(candidate, options, context)``."""
