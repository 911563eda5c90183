"""The emulated bench: boards that anyone can boot, with a real sshd and a real adbd."""
