"""A small volume is full when it is, is free again when it is told to be, and leaves no mount behind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from tests.real_services.small_volume import NoVolumeError, SmallVolume
from tests.real_services.waiting import until


def test_a_full_volume_takes_nothing_until_the_ballast_is_off_and_its_mount_goes_with_the_context(tmp_path: Path) -> None:
    try:
        with SmallVolume(tmp_path / "small", 1024 * 1024) as volume:
            volume.leave_free(0)
            with pytest.raises(OSError, match="No space left"):
                (volume.folder / "more").write_bytes(bytes(8192))
            volume.throw_ballast_off()
            (volume.folder / "more").write_bytes(bytes(8192))
            assert (tmp_path / "small").is_mount()
    except NoVolumeError as fault:
        pytest.skip(str(fault))
    assert not (tmp_path / "small").is_mount()


def test_the_mount_of_a_killed_test_run_goes_with_it(tmp_path: Path) -> None:
    script = (
        "import pathlib, signal, os; from tests.real_services.small_volume import SmallVolume; "
        f"SmallVolume(pathlib.Path({str(tmp_path / 'small')!r}), 65536).__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run((sys.executable, "-c", script), capture_output=True, text=True, check=False, cwd=root)
    if "NoVolumeError" in ended.stderr:
        pytest.skip(ended.stderr.splitlines()[-1])
    assert ended.returncode == -9, ended.stderr
    asyncio.run(_until_unmounted(tmp_path / "small"))


async def _until_unmounted(folder: Path) -> None:
    await until(lambda: not folder.is_mount(), "the mount is gone")
