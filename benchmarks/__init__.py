"""Commands that reprint every figure in the docs, each side by side with its peer in one run."""
