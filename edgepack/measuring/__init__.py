"""The host's side of a measurement: bursts, agreement, accuracy, statistics."""
