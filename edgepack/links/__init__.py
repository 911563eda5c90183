"""Reach a device."""
