"""Parse, call, print: the command line, thin over the library."""
