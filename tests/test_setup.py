"""``run_scripts/setup.sh``: which interpreter it takes, what it says, and what it refuses."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
# Answers what setup.sh asks an interpreter, as its version would; -m venv makes an environment that
# installs nothing.
STAND_IN = """#!{real}
version = {version}
import os, shutil, sys
if sys.argv[1] == "-c":
    sys.version_info = (*version, 0, "final", 0)
    exec(sys.argv[2])
elif sys.argv[1] == "--version":
    print("Python %d.%d.0" % version)
elif sys.argv[1:3] == ["-m", "venv"]:
    os.makedirs(sys.argv[3] + "/bin")
    shutil.copy(__file__, sys.argv[3] + "/bin/python")
else:
    open("installed.txt", "a").write(" ".join(sys.argv[1:]) + chr(10))
"""


@pytest.fixture
def checkout(tmp_path):
    """A checkout with what setup.sh reads; its ``bin``, with some tools, is all of the PATH."""
    (tmp_path / "run_scripts").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(REPOSITORY / "run_scripts" / "setup.sh", tmp_path / "run_scripts")
    for name in ("requirements.txt", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    for tool in ("bash", "cat", "cksum", "dirname"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    return tmp_path


def setup(checkout: Path, there: dict, **variables: str) -> subprocess.CompletedProcess:
    """Run setup.sh where these interpreters, by name and version, are on the PATH."""
    for name, version in there.items():
        path = checkout / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STAND_IN.format(real=os.path.realpath(sys.executable), version=version))
        path.chmod(0o755)
    env = {"PATH": str(checkout / "bin"), "HOME": str(checkout), **variables}
    how = {"cwd": checkout, "env": env, "capture_output": True, "text": True}
    return subprocess.run(["bash", "run_scripts/setup.sh"], **how)


@pytest.mark.parametrize(
    "there, taken",
    [
        ({"python3": (3, 12)}, "3.12"),
        ({"python3": (3, 10), "python3.11": (3, 11)}, "3.11"),
        ({"python3": (3, 14), "python3.12": (3, 12), "python3.13": (3, 13)}, "3.13"),
        # A name that lies is not believed.
        ({"python3": (3, 9), "python3.13": (3, 9), "python3.12": (3, 12)}, "3.12"),
        # One of pyenv that is not active is found.
        ({"python3": (3, 9), "../pyenv/versions/3.12.7/bin/python": (3, 12)}, "3.12"),
    ],
)
def test_the_first_suitable_interpreter_is_taken_and_named(checkout, there, taken):
    done = setup(checkout, there, PYENV_ROOT=str(checkout / "pyenv"))
    assert done.returncode == 0, done.stderr
    assert f"Setting up .venv with Python {taken}.0" in done.stdout
    assert "--editable .[dev]" in (checkout / "installed.txt").read_text()
    again = setup(checkout, {})
    assert again.returncode == 0 and again.stdout == ""


FOUND_NONE = "error: found no Python 3.11, 3.12 or 3.13"


@pytest.mark.parametrize(
    "there, python, said",
    [
        ({"python3": (3, 10)}, "", f"{FOUND_NONE} (python3 is Python 3.10.0)"),
        ({}, "", FOUND_NONE),
        ({"python3": (3, 12), "old": (3, 8)}, "old", "PYTHON=old is not Python 3.11"),
        ({"python3": (3, 12)}, "nothing", "PYTHON=nothing is not Python 3.11, 3.12"),
        ({"python3": (3, 12), "new": (3, 14)}, "new", "PYTHON=new is not Python 3.11"),
    ],
)
def test_an_unsupported_interpreter_is_refused_in_a_sentence(checkout, there, python, said):
    done = setup(checkout, there, **({"PYTHON": python} if python else {}))
    assert done.returncode == 2 and said in done.stderr
    assert not (checkout / ".venv").exists()


def test_without_a_setup_the_active_environment_is_left_alone(checkout):
    done = setup(checkout, {}, TMKT_SKIP_SETUP="1")
    # Sourced by other scripts, it returns; run by itself, bash says that it cannot.
    assert not (checkout / ".venv").exists() and "Setting up" not in done.stdout
