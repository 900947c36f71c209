"""Folders for many files that are thrown away again, without those who are measured afterwards paying for it.

ext4 is slow for minutes after many files were deleted. As root each folder is a file system of its own in one file, and
goes with that file; otherwise, or where nothing can be mounted, it is a plain folder.
"""

import os
import shutil
import subprocess
from pathlib import Path

SIZE = 40 << 30  # of what is written alone the disk is taken
OPEN: list["Scratch"] = []


class Scratch:
    """An empty folder at `folder`, which was not there."""

    def __init__(self, folder: Path):
        self.dir, self.image = folder, folder.with_name(folder.name + ".img")
        folder.mkdir()
        self.mounted = os.getuid() == 0 and self.mount()
        OPEN.append(self)

    def mount(self) -> bool:
        with open(self.image, "wb") as file:
            file.truncate(SIZE)
        make = ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", self.image]
        # Without noinit_itable the kernel would write tables in the background for a long while.
        for words in (make, ["mount", "-o", "loop,noinit_itable", self.image, self.dir]):
            try:
                done = subprocess.run(words, capture_output=True)
            except FileNotFoundError:
                done = None
            if not done or done.returncode != 0:
                self.image.unlink()
                return False
        (self.dir / "lost+found").rmdir()
        return True

    def close(self, keep: bool = False) -> None:
        """Removes it with all that is in it; to `keep` it, the file stays, for `mount -o loop`."""
        OPEN.remove(self)
        if self.mounted:
            subprocess.run(["umount", "-l", self.dir], check=True)
            self.dir.rmdir()
        if self.mounted and not keep:
            self.image.unlink()
        elif not self.mounted and not keep:
            shutil.rmtree(self.dir)


def close_all(keep: bool) -> None:
    """Closes whatever is open: nothing stays mounted."""
    for scratch in list(OPEN):
        scratch.close(keep)
