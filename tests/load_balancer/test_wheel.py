"""The package stands alone: its own wheel, the standard library and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "libs" / "load_balancer"
ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
import load_balancer as lb
site = [lb.PowerNode("site", None, lb.NodeKind.MICROGRID, [lb.Limit(10, lb.LimitSource.SCHEDULE)]),
        lb.PowerNode("cp", "site", lb.NodeKind.CHARGE_POINT)]
print(lb.explain(lb.allocate(site, [lb.Demand("cp", 22)]), "cp"))
"""


def test_the_wheel_builds_by_itself_and_works_without_any_other_package(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=PACKAGE, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert "load_balancer/py.typed" in archive.namelist()
        archive.extractall(tmp_path / "site")
    # Isolated and without site-packages: only what the wheel brings and the standard library.
    command = [sys.executable, "-I", "-S", "-c", ALONE, str(tmp_path / "site")]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout == "cp gets 10 of 22 kW: microgrid site is full (10 kW, schedule)\n"
