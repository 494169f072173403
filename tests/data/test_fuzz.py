import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "fuzz.py"


@pytest.mark.slow
def test_readers_survive_damaged_files():
    """In a process of its own: a crash, or memory that other tests took, would tell nothing here."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--files", "250"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if " 250 files: " in line]
    assert len(lines) >= 8 and all("0 failures" in line and "'refused': " in line for line in lines)
