"""One run from the set-up to the teardown."""

import asyncio
from asyncio import CancelledError
from collections.abc import Awaitable
from typing import Any

from .case import Case, GivenFailed, Result
from .plan import Plan
from .trial import Trial
from .words import foreign, named, raised_at

__all__ = ["run_case"]


async def run_case(case: Case, plan: Plan | None, usual: Result | None) -> Result:
    """One whole run on the running loop."""
    trial = Trial(case, plan, usual)
    result = trial.result
    with trial.watching():
        try:
            if case.setup is not None:
                value = await _within(case.setup(), case.timeout, "the set-up")
                trial.args = (value,)

            def make() -> Awaitable[Any]:
                return case.fn(*trial.args)

            await trial.body(make)
            await trial.see_check()
            await trial.see_restart(make)
            if case.teardown is not None:
                await _tear_down(trial)
        except GivenFailed as error:
            result.broken = str(error)
        else:
            trial.finish()
    return result


async def _tear_down(trial: Trial) -> None:
    """Run the user's teardown; when it fails only after a cancel, the cancel broke something."""
    teardown = trial.case.teardown
    assert teardown is not None
    try:
        await _within(teardown(*trial.args), trial.case.timeout, "the teardown")
    except GivenFailed as error:
        if trial.plan is None:
            raise
        trial.violated("teardown", str(error))
    await trial.let_go()


async def _within(work: Awaitable[Any], limit: float, name: str) -> Any:
    try:
        async with asyncio.timeout(limit):
            return await work
    except TimeoutError as error:
        raise GivenFailed(f"{name} did not end within {limit:g} s ({named(error)})") from None
    except (Exception, CancelledError) as error:
        if foreign(error):
            raise
        raise GivenFailed(f"{name} failed: {named(error)}{raised_at(error)}") from error
