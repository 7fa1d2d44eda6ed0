"""What the plugin knows of the whole suite: whose a file is, what fails, what was swept already, and the summary."""

import os
from pathlib import Path
from typing import Any

import pytest

from ._suite.awaits import Table, states_of
from ._suite.changed import Changed
from ._suite.claims import Claims
from ._suite.faults import faults_of, plain, read_baseline, write_baseline
from ._suite.owners import OWNERS, Owners
from ._suite.render import FORMATS, Sum, github, page, term, to_json
from ._sweep.learnt import Learnt
from ._sweep.plan import Plan
from ._sweep.report import SweepReport

__all__ = ["Suite", "option", "suite_of"]

_key = pytest.StashKey["Suite"]()


def option(config: pytest.Config, name: str) -> Any:
    """An option of the command line, or else the setting of the same name in the ini file."""
    given = config.getoption(f"--cancel-sweep-{name.replace('_', '-')}", None)
    return given if given not in (None, []) else config.getini(f"cancel_sweep_{name}") or None


def suite_of(config: pytest.Config) -> "Suite":
    """The one of this run of pytest.

    Raises:
        pytest.UsageError: an option is wrong.
    """
    if _key not in config.stash:
        try:
            config.stash[_key] = Suite(config)
        except ValueError as error:
            raise pytest.UsageError(f"cancel sweep: {error}") from None
        except OSError as error:
            raise pytest.UsageError(f"cancel sweep: {error.filename}: {error.strerror}") from None
    return config.stash[_key]


class Suite:
    """The settings that hold for all tests, and what they have in common."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.tests: set[Path] = set()
        self.runners: dict[Any, str] = {}  # decorators that run tests elsewhere, by their code, with the reason
        self._owners: Owners | None = None
        self._claims: Claims | None = None
        self.learnt = Learnt()
        fault = option(config, "fault") or "project"
        if fault not in ("project", "tests", "all"):
            raise ValueError(f"cancel_sweep_fault must be project, tests or all, not {fault!r}")
        self.failing = {"project": {"project"}, "tests": {"project", "tests"}, "all": set(OWNERS)}[fault]
        self.reports = [part for given in _listed(option(config, "report")) for part in given.split(",")] or ["term"]
        for report in self.reports:
            if report.partition(":")[0] not in FORMATS:
                raise ValueError(f"cancel_sweep_report must be of {', '.join(FORMATS)}, not {report!r}")
        under = option(config, "fail_under")
        try:
            self.fail_under = None if under is None else float(under)
        except ValueError:
            raise ValueError(f"cancel_sweep_fail_under must be a number, not {under!r}") from None
        self.baseline_file: str | None = option(config, "baseline")
        self.writes_baseline = bool(config.getoption("--cancel-sweep-write-baseline"))
        if self.writes_baseline and not self.baseline_file:
            raise ValueError("--cancel-sweep-write-baseline needs the file, by --cancel-sweep-baseline")
        self.baseline: set[str] = set()
        if self.baseline_file and not self.writes_baseline:
            self.baseline = read_baseline(self.baseline_file)
        base = config.getoption("--cancel-sweep-diff")
        self.changed = None if base is None else Changed(base, config.rootpath)

    @property
    def owners(self) -> Owners:
        """Whose files are."""
        if self._owners is None:
            self._owners = Owners(self.config.rootpath, self.tests, _listed(option(self.config, "source")))
        return self._owners

    @property
    def claims(self) -> Claims:
        """What was swept already."""
        if self._claims is None:
            worker: Any = getattr(self.config, "workerinput", {})
            self._claims = Claims(self.owners.of, worker.get("testrunuid", ""))
        return self._claims

    def concerns(self, plan: Plan) -> bool:
        """Whether a cancel may show a fault that counts.

        A test that waits at a line of its own, with nothing of the project below, is called off there while it waits:
        the project may have something open around it. To throw the result of that wait away, or to keep a task of the
        test from its first step, shows only what the test does with its own.
        """
        if self.changed is not None and not self.changed.meets(plan.point.stack):
            return False
        if plan.phase not in ("late", "before") or "tests" in self.failing or not self.owners.has_project:
            return True
        return any(self.owners.of(step.file) == "project" for step in plan.point.stack)

    @property
    def shares(self) -> bool:
        """Whether what one test was called off at is left out in the next."""
        if self.config.getoption("--cancel-sweep-replay") is not None:
            return False
        return self.owners.has_project and not self.config.getoption("--cancel-sweep-every-test")

    def wants(self, plan: Plan, test: str, terms: str, *, take: bool) -> bool:
        """Whether a cancel is to be tried here on these terms; with `take`, it is claimed."""
        if not self.shares:
            return True
        return self.claims.take(plan, test, terms) if take else self.claims.is_free(plan, test, terms)

    def give_back(self, plan: Plan) -> None:
        """What was claimed is not tried after all."""
        if self.shares:
            self.claims.give_back(plan)

    def judged(self, report: SweepReport) -> tuple[dict[str, Any], bool]:
        """What the summary needs of one test, and whether the test fails."""
        findings = [plain(finding, self.owners, report.target, report.replay) for finding in report.findings]
        fails = any(
            item["verdict"] == "UNSAFE" and item["owner"] in self.failing and item["key"] not in self.baseline
            for item in findings
        )
        return {"findings": findings, "awaits": states_of(report, self.owners)}, fails and not self.writes_baseline

    def summed(self, notes: list[tuple[str, dict[str, Any]]]) -> Sum:
        """All tests together."""
        faults = faults_of(item for _, each in notes for item in each.get("findings", ()))
        files = self.owners.files() if self.owners.has_project else []
        table = Table(files, ((file, line, state) for _, each in notes for file, line, state in each.get("awaits", ())))
        return Sum(faults, table, notes, frozenset(self.failing), frozenset(self.baseline))

    def tell(self, notes: list[tuple[str, dict[str, Any]]], reporter: Any) -> None:
        """Write the reports that were asked for."""
        whole = self.summed(notes)
        for report in self.reports:
            kind, _, target = report.partition(":")
            if kind == "term":
                for line in term(whole, each=len(notes) <= _FEW or int(self.config.getoption("verbose") or 0) > 0):
                    reporter.write_line(line)
            elif kind == "github":
                for line in github(whole):
                    reporter.write_line(line)
            elif kind == "json":
                Path(target or "cancel-sweep.json").write_text(to_json(whole) + "\n", encoding="utf-8")
            else:
                page(whole, Path(target or "cancel-sweep.html"))
        if self.writes_baseline and self.baseline_file:
            number = write_baseline(self.baseline_file, whole.faults)
            reporter.write_line(f"{self.baseline_file}: {number} faults that are there now")
        if self.fail_under is not None:
            fell = "" if whole.table.percent >= self.fail_under else f", and {self.fail_under:g} % are wanted: failed"
            reporter.write_line(f"{whole.table.percent:.1f} % of the awaits that were reached are safe{fell}")

    def falls_short(self, notes: list[tuple[str, dict[str, Any]]]) -> bool:
        """Whether less is safe than `fail_under` wants."""
        return self.fail_under is not None and self.summed(notes).table.percent < self.fail_under


class Wants:
    """What one test may try.

    Args:
        suite: knows what others have tried.
        test: its name.
        terms: how it is called off and judged; only those that share them try an await for each other.
    """

    def __init__(self, suite: Suite, test: str, terms: str) -> None:
        self._suite = suite
        self._test = test
        self._terms = terms

    def __call__(self, plan: Plan, /, *, take: bool) -> bool:
        """Whether a cancel is to be tried; with `take`, it is claimed."""
        return self._suite.wants(plan, self._test, self._terms, take=take)

    def give_back(self, plan: Plan, /) -> None:
        """It was claimed, and is not tried after all."""
        self._suite.give_back(plan)


def _listed(value: Any) -> list[str]:
    """One word or several."""
    if not value:
        return []
    return [value] if isinstance(value, str) else [os.fspath(part) for part in value]


_FEW = 30
