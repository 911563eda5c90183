"""This machine as a device: the same calls as any link, without a connection."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgepack.errors import LinkError, LinkTimeout, SpecError
from edgepack.files import replacing
from edgepack.links.link import Completed
from edgepack.spec.device import Device


class LocalLink:
    """Runs each program in a process group of its own, so that it ends as a whole."""

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
    ) -> Completed:
        """Run a program; see Link."""
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        except FileNotFoundError:
            return Completed(returncode=127, stdout=b"", stderr=f"{argv[0]}: not found".encode())
        except PermissionError:
            message = f"{argv[0]}: permission denied".encode()
            return Completed(returncode=126, stdout=b"", stderr=message)
        except OSError as error:
            raise LinkError(f"cannot run {argv[0]}: {error.strerror}") from error
        try:
            stdout, stderr = process.communicate(stdin or b"", timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise LinkTimeout(
                f"`{argv[0]}` did not finish within {timeout_s:g} s",
                "raise options.call_seconds in the device's TOML if it needs longer",
            ) from error
        finally:
            _end(process)
        code = process.returncode
        return Completed(returncode=128 - code if code < 0 else code, stdout=stdout, stderr=stderr)

    def put(self, local: Path, remote: str, *, timeout_s: float) -> None:
        """Copy a file; see Link."""
        _copy(local, Path(remote))

    def get(self, remote: str, local: Path, *, timeout_s: float) -> None:
        """Copy a file; see Link."""
        _copy(Path(remote), local)

    def close(self) -> None:
        """Nothing is open."""


def connect(device: Device) -> LocalLink:
    """A link to this machine; ``device`` names no address."""
    return LocalLink()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole group of a process that was not waited for."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with process:  # closes the pipes and waits
            pass


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise LinkError(f"no such file: {source}")
    if not target.parent.is_dir():
        raise LinkError(f"no such folder: {target.parent}")
    try:
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
    except SpecError as error:
        raise LinkError(error.message, "free some room there, or choose another place") from error
