"""The TOML that people write, as frozen dataclasses."""
