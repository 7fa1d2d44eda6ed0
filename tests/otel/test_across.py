"""The trace, and what belongs to log lines, go with a body into another process: on this machine and on a node."""

import contextvars
import logging
import os
import subprocess
import sys
from typing import Any

import pytest
import structlog
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.sdk.trace import TracerProvider

import calloff
import calloff.cluster
import calloff.logs
from calloff._child import luggage as child
from calloff._words.luggage import luggage_of
from calloff.otel import instrument


@pytest.fixture
def tracers():
    provider = TracerProvider(shutdown_on_exit=False)
    yield provider
    provider.shutdown()


def seen(item=None):
    """What a span that is made here would hang below."""
    span = trace.get_current_span().get_span_context()
    return span.trace_id, span.span_id, dict(baggage.get_all())


async def seen_async():
    return seen()


class Spans:
    """The spans of operations by name."""

    def __init__(self, instrumentation):
        self._all = instrumentation._spans

    def of(self, operation):
        span = self._all[operation].get_span_context()
        return span.trace_id, span.span_id


@pytest.mark.parametrize("work", [seen, seen_async])
async def test_a_function_in_a_process_is_below_its_operation(tracers, work):
    with instrument(tracer_provider=tracers) as instrumentation:
        token = context.attach(baggage.set_baggage("tenant", "oak"))
        try:
            operation = calloff.start(calloff.process(work))
            expected = Spans(instrumentation).of(operation)
            assert await operation == (*expected, {"tenant": "oak"})
        finally:
            context.detach(token)
        operation = calloff.start(calloff.process(work))
        expected = Spans(instrumentation).of(operation)
        assert await operation == (*expected, {})  # nothing is left of the call before


async def test_without_instrumentation_it_is_below_what_starts_it(tracers):
    with tracers.get_tracer("test").start_as_current_span("request") as span:
        about = span.get_span_context()
        assert (await calloff.call(calloff.process(seen)))[:2] == (about.trace_id, about.span_id)
    assert (await calloff.call(calloff.process(seen)))[:2] == (0, 0)


@pytest.mark.parametrize("batch", [1, 4])
async def test_the_items_of_a_map_are_below_an_operation_of_theirs(tracers, batch):
    with instrument(tracer_provider=tracers), tracers.get_tracer("test").start_as_current_span("request") as span:
        outcomes = await calloff.map(seen, range(8), place=calloff.process, batch=batch, jobs=2)
    traces = {outcome.unwrap()[0] for outcome in outcomes}
    assert traces == {span.get_span_context().trace_id}
    parents = {outcome.unwrap()[1] for outcome in outcomes}
    assert span.get_span_context().span_id not in parents  # but an operation, of one item or of several
    assert len(parents) == 8 or batch > 1


async def test_it_goes_to_a_node(tracers):
    with instrument(tracer_provider=tracers) as instrumentation:
        async with calloff.cluster.local() as cluster:
            operation = calloff.start(cluster.process(seen))
            expected = Spans(instrumentation).of(operation)
            assert (await operation)[:2] == expected


async def test_after_its_end_an_instrumentation_adds_nothing(tracers):
    instrument(tracer_provider=tracers).close()
    assert (await calloff.call(calloff.process(seen)))[:2] == (0, 0)


async def test_a_propagator_that_fails_keeps_no_body_from_running(monkeypatch):
    monkeypatch.setattr(propagate, "inject", lambda headers: 1 // 0)
    assert (await calloff.call(calloff.process(seen)))[:2] == (0, 0)


def test_a_worker_that_has_not_got_them_goes_without(monkeypatch):
    for name in ("opentelemetry.propagate", "structlog.contextvars"):
        monkeypatch.setitem(sys.modules, name, None)
    child.unpack({"trace": {"traceparent": "00-1-1-01"}, "log": {"a": 1}})


def test_a_program_that_does_not_know_them_takes_nothing_along_and_imports_nothing():
    code = (
        "import sys, calloff\n"
        "calloff.run(calloff.call(calloff.process(len, 'a')))\n"
        "assert not [name for name in sys.modules if name.startswith(('opentelemetry', 'structlog'))]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def fields(_=None):
    return structlog.contextvars.get_contextvars()


async def test_the_plain_context_variables_of_structlog_are_bound_there():
    with structlog.contextvars.bound_contextvars(request="r1", attempt=2, connection=object()):
        luggage = luggage_of(None)
        assert luggage is not None
        assert luggage["log"] == {"request": "r1", "attempt": 2}
        assert await calloff.call(calloff.process(fields)) == {"request": "r1", "attempt": 2}
    assert await calloff.call(calloff.process(fields)) == {}


variable = contextvars.ContextVar("variable", default="nothing")


def sets_and_tells():
    before = variable.get()
    variable.set("something")
    return before, os.getpid()


async def test_a_context_variable_that_a_function_sets_is_gone_with_it():
    told = [await calloff.call(calloff.process(sets_and_tells)) for _ in range(4)]
    assert {before for before, _ in told} == {"nothing"}
    assert len({pid for _, pid in told}) < 4


def logged():
    record: Any = logging.makeLogRecord({})
    assert calloff.logs.WithOperation().filter(record)
    return record.operation_id, record.operation_name


@pytest.mark.parametrize("place", [calloff.thread, calloff.process])
async def test_log_records_tell_their_operation(place):
    operation = calloff.start(place(logged), name="resize")
    assert await operation == (operation.id, "resize")


def test_log_records_outside_of_operations_and_of_endings():
    assert logged() == (None, None)
    record: Any = logging.makeLogRecord({"operation_id": "7"})
    calloff.logs.WithOperation().filter(record)
    assert record.operation_id == "7"
