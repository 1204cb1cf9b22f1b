"""The README's tables against the tables in the code."""
import re
import subprocess
from pathlib import Path

from conftest import HEARTH

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()


def test_every_parameter_is_listed():
    table = subprocess.run([ROOT / "scripts/parameters"], capture_output=True, text=True, check=True).stdout
    assert len(re.findall(r'^PARAM\("', (ROOT / "server/api/params.def").read_text(), re.M)) + 2 == table.count("\n")
    assert table in README, "scripts/parameters --write"


def test_every_command_is_listed():
    shown = subprocess.run([HEARTH, "--help"], capture_output=True, text=True, check=True).stdout
    commands = re.findall(r"^  (\w+) {2,}", shown, re.M)
    assert len(commands) >= 9
    assert [name for name in commands if name not in README] == []


def test_flags_in_the_readme_exist():
    shown = "".join(subprocess.run([HEARTH, command, "--help"], capture_output=True, text=True, check=True).stdout
                    for command in ("serve", "run", "bench", "service"))
    table = README.split("## Options")[1].split("## Endpoints")[0]
    flags = set(re.findall(r"`(--[a-z-]+)`", table))
    assert len(flags) > 8 and {flag for flag in flags if flag not in shown} == set()
