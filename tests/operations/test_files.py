"""What people copy from docs/operations is understood by the programs that it is for, and names what there is."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prometheus_client import CollectorRegistry

from reconciler.alerts.conditions import GATES
from reconciler.clock import SystemClock
from reconciler.config import load
from reconciler.intake import IntakeMetrics
from reconciler.ledger import GroupCommit, Ledger, open_ledger
from reconciler.metrics import WorkMetrics
from reconciler.web import LedgerGauges

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "docs" / "operations"
PAGE = (ROOT / "docs" / "operations.md").read_text()


def metrics(ledger: Ledger) -> dict[str, frozenset[str]]:
    """Every metric that a daemon exports, with its labels."""
    registry, clock = CollectorRegistry(), SystemClock()
    WorkMetrics(registry)
    IntakeMetrics(registry)
    LedgerGauges(registry, (), GroupCommit(ledger, clock), clock)
    collectors: dict[Any, list[str]] = registry._collector_to_names
    return {name: frozenset(each._labelnames) for each, names in collectors.items() for name in names}


def expressions() -> list[str]:
    rules = yaml.safe_load((FILES / "prometheus-rules.yaml").read_text())
    board = json.loads((FILES / "grafana.json").read_text())
    found = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    return found + [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def test_rules_and_dashboard_name_metrics_and_labels_that_there_are(sqlite_ledger_url: str) -> None:
    with closing(open_ledger(sqlite_ledger_url)) as ledger:
        exported = metrics(ledger)
    asked = expressions()
    assert len(asked) > 15
    for expression in asked:
        names = re.findall(r"reconciler_\w+", expression)
        assert all(name in exported for name in names), expression
        labels = set(re.findall(r"(\w+)=~?\"", expression)) - {"job"}
        labels |= {each.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for each in group.split(",")}
        assert all(any(label in exported[name] for name in names) for label in labels if names), expression


def test_every_rule_says_what_to_do() -> None:
    rules = yaml.safe_load((FILES / "prometheus-rules.yaml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["action"]
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_prometheus_itself_accepts_the_rules() -> None:
    tool = shutil.which("promtool")
    if tool is None:
        assert not os.environ.get("CI"), "promtool is missing; .ci/run installs it"
        pytest.skip("promtool is not here (Debian: prometheus)")
    ran = subprocess.run(
        [tool, "check", "rules", FILES / "prometheus-rules.yaml"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        assert not os.environ.get("CI"), "systemd-analyze is missing; .ci/run installs it"
        pytest.skip("systemd-analyze is not here")
    for unit in FILES.glob("reconciler*.[st]*"):
        text = re.sub(r"ExecStart=\S+", f"ExecStart={shutil.which('true')}", unit.read_text())
        (tmp_path / unit.name).write_text(text)
    units = sorted(tmp_path.iterdir())
    assert len(units) == 3
    ran = subprocess.run([tool, "verify", *units], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_unit_does_what_the_page_says_of_each_exit_code() -> None:
    """A database that came up a minute and a half after the daemon found a unit that had given up for good."""
    unit = dict(re.findall(r"^(\w+)=(.*)$", (FILES / "reconciler.service").read_text(), re.MULTILINE))
    rows = re.findall(r"^\| (-?\d+)[^|]*\|[^|]*\| ([^|]+) \|$", PAGE, re.MULTILINE)
    ends = {int(code) for code, deed in rows if deed.startswith("not start it again")}
    assert ends == {0, 2}
    assert {int(code) for code, deed in rows} - ends >= {70, 75}
    assert unit["Restart"] == "on-failure", "0 is no failure"
    assert {int(code) for code in unit["RestartPreventExitStatus"].split()} == ends - {0}
    assert unit["StartLimitIntervalSec"] == "0", "the others for ever"


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FILES / "kubernetes.yaml").read_text()))


@pytest.mark.parametrize("release", ["1.25", "1.31", "1.37"])
def test_kubernetes_itself_accepts_the_manifests(release: str) -> None:
    """By the schemas of its releases, strictly: a field that a release does not know is refused, not passed over."""
    documents = manifests()
    assert [each["kind"] for each in documents] == ["Deployment", "PodDisruptionBudget", "Service"]
    for document in documents:
        assert kubernetes_validate.validate(document, release, strict=True) == release


def _container(manifest: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = manifest["spec"]["template"]["spec"]["containers"][0]
    return container


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda it: it["spec"].update(replica=2), "'replica' was unexpected"),
        (lambda it: it["spec"].update(replicas="two"), "'two' is not of type"),
        (lambda it: it["spec"].pop("selector"), "'selector' is a required property"),
        (lambda it: _container(it).update(readyProbe={}), "'readyProbe' was unexpected"),
        (lambda it: _container(it)["readinessProbe"]["httpGet"].update(url="/readyz"), "'url' was unexpected"),
        (lambda it: _container(it)["livenessProbe"].update(periodSeconds="10s"), "'10s' is not of type"),
        (lambda it: _container(it)["securityContext"].update(readOnlyRootFilesystem="yes"), "'yes' is not of type"),
        (lambda it: _container(it).update(args="run"), "'run' is not of type"),
    ],
)
def test_a_spoiled_manifest_is_refused(spoil: Callable[[dict[str, Any]], object], complaint: str) -> None:
    """What holds the test above to its word: the schemas are strict at every depth."""
    manifest = manifests()[0]
    spoil(manifest)
    with pytest.raises(kubernetes_validate.ValidationError, match=re.escape(complaint)):
        kubernetes_validate.validate(manifest, "1.37", strict=True)


def test_containers_set_keys_that_the_configuration_has() -> None:
    """Each RECONCILER__ variable is read by the configuration itself, which refuses one that it does not know."""
    given: dict[str, str] = {}
    for document in manifests():
        for container in document["spec"].get("template", {}).get("spec", {}).get("containers", []):
            given |= {each["name"]: each.get("value", "sqlite:///x.db") for each in container["env"]}
    given |= yaml.safe_load((FILES / "compose.yaml").read_text())["services"]["worker"]["environment"]
    ours = {name: value for name, value in given.items() if name.startswith("RECONCILER__")}
    assert set(ours) == {"RECONCILER__SERVER__HOST", "RECONCILER__LEDGER__URL"}
    config = load(None, ours)
    assert config.server.host == ours["RECONCILER__SERVER__HOST"]
    assert config.ledger.url.startswith("postgresql+psycopg://")


PROVIDERS = ("providers/stripe", "providers/shopify")


def codes(*folders: str) -> set[str]:
    """Every code that a finding or a condition can have, out of the calls that make them."""
    found: set[str] = set()
    for folder in folders or ("reconciler", *PROVIDERS):
        for path in sorted((ROOT / folder).rglob("*.py")):
            source = path.read_text()
            makes_some = "Finding(" in source or "Condition(" in source
            for node in ast.walk(ast.parse(source)) if makes_some else ():
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Finding", "Condition"):
                    given = [each.value for each in node.keywords if each.arg == "code"]
                    found.update(code for each in [*node.args[:1], *given] for code in _written(each, path))
    return found


def _written(code: ast.expr, path: Path) -> list[str]:
    match code:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.Name(id=name):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            return [str(getattr(importlib.import_module(module), name))]
        case ast.JoinedStr():
            return [f"gate-{reason}" for reason in GATES]
    return []  # one that is handed on: its maker is seen elsewhere


def test_every_alert_has_its_meaning_and_three_steps_on_the_page() -> None:
    """And none stands there that nobody can meet."""
    table = PAGE[PAGE.index("## Alerts") : PAGE.index("Open alerts stand in")]
    rows = re.findall(r"^\| (`.+?`) \| (.+?) \| (.+?) \|$", table, re.MULTILINE)
    assert {code for names, _, _ in rows for code in re.findall(r"`([^`]+)`", names)} == codes()
    wrong = [names for names, _, steps in rows if re.findall(r"\b([123])\. ", steps) != ["1", "2", "3"]]
    assert wrong == []


def test_a_code_is_written_as_the_page_says_of_who_sees_it() -> None:
    """Whoever routes alerts by their codes can rely on it, so nobody writes the next one in his own way."""
    theirs, ours = codes(*PROVIDERS), codes("reconciler")
    assert theirs
    assert ours
    assert {code for code in theirs if "-" in code} == set()
    assert {code for code in ours if "_" in code} == set()


def test_page_names_only_files_that_there_are() -> None:
    named = re.findall(r"\]\(((?!http)[^)#]+)\)", PAGE)
    assert named
    assert [name for name in named if not (ROOT / "docs" / name).exists()] == []
