"""Programs of other people that our files must satisfy. CI installs them; where CI is set, their absence fails."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from pathlib import Path

import pytest

_PATIENCE = 150
_RECALCULATE = """<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry">
<item oor:path="/org.openoffice.Office.Calc/Formula/Load"><prop oor:name="OOXMLRecalcMode" oor:op="fuse">
<value>0</value></prop></item></oor:items>
"""
"""LibreOffice otherwise shows the results that stand in the file, which proves nothing."""


def needed(program: str, package: str) -> str:
    """The program's path. Skips with one line where it is not installed, but never in CI."""
    found = shutil.which(program)
    if found is not None:
        return found
    if os.environ.get("CI"):
        pytest.fail(f"{program} is missing; .ci/run installs the Debian package {package}")
    pytest.skip(f"{program} is not installed (Debian: {package})")


def soffice() -> str:
    return needed("soffice", "libreoffice-calc-nogui")


def as_csv(office: str, path: Path, folder: Path) -> dict[str, list[list[str]]]:
    """Every sheet of a workbook, recalculated and converted by LibreOffice, as it shows the cells."""
    folder.mkdir()
    profile = folder / "profile"
    (profile / "user").mkdir(parents=True)
    (profile / "user" / "registrymodifications.xcu").write_text(_RECALCULATE, encoding="utf-8")
    filter_ = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false,false,false,-1"
    ran = subprocess.run(
        [office, f"-env:UserInstallation=file://{profile}", "--headless", "--norestore", "--convert-to", filter_,
         "--outdir", str(folder), str(path)],
        capture_output=True, text=True, timeout=_PATIENCE, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found = {}
    for each in sorted(folder.glob("*.csv")):
        with each.open(encoding="utf-8", newline="") as file:
            found[each.stem.removeprefix(f"{path.stem}-")] = list(csv.reader(file))
    return found
