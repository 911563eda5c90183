"""Drive one runtime on a device."""
