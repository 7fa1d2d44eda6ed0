"""The jobs by the names that people know: ``nox -s lint``, ``nox -s tests-3.14``; ``nox -l`` lists them.

nox makes no environments here. Each job is one of `scripts/test` (or of the scripts beside it), which has its own, from
`uv.lock`: so that a job that is started by nox, by hand and by CI is the same one, and no Python is downloaded.
"""

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "imports"]
JOBS = (
    "lint",
    "types",
    "imports",
    "docs",
    "wheel",
    "borders",
    "engines",
    *(f"tests-3.{minor}" for minor in range(11, 16)),
)


def _job(name: str) -> None:
    @nox.session(name=name)
    def run(session: nox.Session) -> None:
        session.run("sh", "scripts/test", name, external=True)


for _name in JOBS:
    _job(_name)


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks, beside the peers from the same run."""
    session.run("sh", "scripts/bench", *session.posargs, external=True)


@nox.session
@nox.parametrize("which", ["lowest", "newest"])
def dependencies(session: nox.Session, which: str) -> None:
    """The tests with the lowest and the newest allowed versions of what calloff depends on."""
    session.run("sh", "scripts/dependencies", which, *session.posargs, external=True)
