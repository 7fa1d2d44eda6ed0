"""Spans and metrics, read back from OpenTelemetry's exporters to memory."""

import asyncio
import subprocess
import sys
import threading

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import calloff
from calloff.otel import instrument


class Telemetry:
    """An SDK that keeps everything in memory."""

    def __init__(self):
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)

    def providers(self):
        return {"tracer_provider": self.tracers, "meter_provider": self.meters}

    def spans(self):
        return {span.name: span for span in self._exporter.get_finished_spans()}

    def points(self, name):
        """The values of a metric: {(value of each attribute, ...): value or count}."""
        data = self._reader.get_metrics_data()
        found = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        for point in metric.data.data_points:
                            key = tuple(value for _, value in sorted(point.attributes.items()))
                            found[key] = getattr(point, "value", None)
                            if found[key] is None:
                                found[key] = point.count
        return found


@pytest.fixture
def telemetry():
    telemetry = Telemetry()
    yield telemetry
    telemetry.tracers.shutdown()
    telemetry.meters.shutdown()


@pytest.fixture
def short_last(monkeypatch):
    monkeypatch.setattr(calloff.Operation, "policy", calloff.Operation.policy._replace(last=0.1))


async def waits():
    await asyncio.sleep(3600)


async def refuses():
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        pass
    await asyncio.sleep(3600)


async def stubborn():
    while True:
        try:
            await asyncio.sleep(3600)
        except BaseException:  # noqa: B036
            pass


async def begun(work, **options):
    operation = calloff.start(work, **options)
    while operation.state.value == "pending":
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    return operation


async def test_success_and_failure(telemetry):
    async def fails():
        raise LookupError("no such luck")

    with instrument(**telemetry.providers()):
        await calloff.call(asyncio.sleep(0), name="good")
        await calloff.start(fails(), name="bad").outcome()
    good, bad = telemetry.spans()["good"], telemetry.spans()["bad"]
    assert good.status.status_code is StatusCode.UNSET
    assert set(good.attributes) == {"calloff.operation.id", "calloff.place", "calloff.outcome"}
    assert good.attributes["calloff.outcome"] == "completed"
    assert good.attributes["calloff.place"] == "task"
    assert bad.status.status_code is StatusCode.ERROR
    assert bad.status.description == "no such luck"
    assert bad.attributes["error.type"] == "LookupError"
    assert bad.attributes["calloff.outcome"] == "failed"
    assert [event.name for event in bad.events] == ["exception"]


async def test_called_off_is_not_success(telemetry, short_last):
    with instrument(**telemetry.providers()):
        late = await begun(waits(), name="late")
        late.reschedule(0.01)
        await late.outcome()
        await calloff.start(waits(), name="silent", stall=0.01).outcome()
        await (await begun(waits(), name="stopped")).stop("enough")
        await (await begun(refuses(), name="refused")).stop("enough")
        abandoned = await begun(stubborn(), name="stuck")
        await abandoned.stop("enough", grace=0)
    spans = telemetry.spans()
    told = {
        name: (
            span.attributes["error.type"],
            span.attributes["calloff.outcome"],
            span.attributes["calloff.reason.kind"],
        )
        for name, span in spans.items()
    }
    assert told == {
        "late": ("timeout", "cancelled", "deadline"),
        "silent": ("timeout", "cancelled", "stalled"),
        "stopped": ("cancelled", "cancelled", "requested"),
        "refused": ("cancelled", "cancelled", "requested"),
        "stuck": ("abandoned", "abandoned", "requested"),
    }
    assert {span.status.status_code for span in spans.values()} == {StatusCode.ERROR}
    after, stopped, refused, stuck = (spans[name] for name in ("late", "stopped", "refused", "stuck"))
    assert after.status.description == "deadline: within 0.01 s"
    assert "waits (" in after.attributes["calloff.where"]
    assert (stopped.attributes["calloff.rung"], stopped.attributes["calloff.refusals"]) == ("ASKED", 0)
    assert stopped.attributes["calloff.reason.text"] == "enough"
    assert stopped.attributes["calloff.clean_up"] >= 0
    assert [event.name for event in stopped.events] == ["stop requested"]
    assert (refused.attributes["calloff.rung"], refused.attributes["calloff.refusals"]) == ("INSISTED", 1)
    assert stuck.attributes["calloff.rung"] == "ABANDONED"
    assert "await asyncio.sleep(3600)" in stuck.attributes["calloff.stuck_at"]


def test_who_asked(arun, telemetry):
    async def asker():
        operation = await begun(waits(), name="asked")
        await operation.stop("enough")
        return calloff.current().ref

    with instrument(**telemetry.providers()):
        ref = arun(lambda: calloff.call(asker()))
    assert telemetry.spans()["asked"].attributes["calloff.reason.by"] == str(ref)


async def test_expected_cancels(telemetry, short_last):
    with instrument(**telemetry.providers(), expected=["requested"]):
        await (await begun(waits(), name="expected")).stop("enough")
        await calloff.start(waits(), name="late", timeout=0.01).outcome()
        await (await begun(stubborn(), name="stuck")).stop("enough", grace=0)
    expected, late, stuck = (telemetry.spans()[name] for name in ("expected", "late", "stuck"))
    assert expected.status.status_code is StatusCode.UNSET
    assert "error.type" not in expected.attributes
    assert expected.attributes["calloff.outcome"] == "cancelled"
    assert late.status.status_code is StatusCode.ERROR
    assert stuck.status.status_code is StatusCode.ERROR, "what could not be stopped is nobody's expectation"


def test_an_unknown_kind_is_refused(telemetry):
    with pytest.raises(ValueError, match=r"expected must be kinds of reason \(requested, .*\), not 'timeout'"):
        instrument(expected=["timeout"])


async def test_spans_nest_across_tasks_and_threads(telemetry):
    tracer = telemetry.tracers.get_tracer("test")
    seen = {}

    def in_thread():
        seen["thread"] = trace.get_current_span().get_span_context().span_id
        with tracer.start_as_current_span("made in the thread"):
            pass

    async def child():
        with tracer.start_as_current_span("made in the child"):
            await calloff.call(calloff.thread(in_thread), name="thread")

    async def parent():
        seen["parent"] = trace.get_current_span().get_span_context().span_id
        async with calloff.group() as group:
            group.start(child(), name="child")
        await calloff.call(calloff.command("true"), name="command")

    with instrument(**telemetry.providers()):
        with tracer.start_as_current_span("request") as request:
            await calloff.call(parent(), name="parent")
            assert trace.get_current_span() is request, "the code that starts it keeps its own"
    spans = telemetry.spans()
    ids = {span.context.span_id: name for name, span in spans.items()}
    parents = {name: None if span.parent is None else ids[span.parent.span_id] for name, span in spans.items()}
    assert parents == {
        "request": None,
        "parent": "request",
        "child": "parent",
        "made in the child": "child",
        "thread": "made in the child",
        "made in the thread": "thread",
        "command": "parent",
    }
    assert len({span.context.trace_id for span in spans.values()}) == 1
    assert {name: ids[span_id] for name, span_id in seen.items()} == {"parent": "parent", "thread": "thread"}


async def test_metrics(telemetry, short_last):
    with instrument(**telemetry.providers()):
        for _ in range(3):
            await calloff.call(asyncio.sleep(0))
        await calloff.call(calloff.thread(int))
        await calloff.start(waits(), timeout=0.01).outcome()
        running = await begun(waits())
        await (await begun(stubborn())).stop("enough", grace=0)
        seen = {}

        def read():  # as an exporter does, in a thread of its own
            seen["running"] = telemetry.points("calloff.operations.running")
            seen["abandoned"] = telemetry.points("calloff.operations.abandoned")

        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        await running.stop()
        assert seen == {"running": {("task", "running"): 1}, "abandoned": {("task",): 1}}
        assert telemetry.points("calloff.operations.started") == {("task",): 6, ("thread",): 1}
        assert telemetry.points("calloff.operations.ended") == {
            ("completed", "task"): 3,
            ("completed", "thread"): 1,
            ("cancelled", "task", "deadline"): 1,
            ("cancelled", "task", "requested"): 1,
            ("abandoned", "task", "requested"): 1,
        }
        assert telemetry.points("calloff.operation.duration") == {
            ("completed", "task"): 3,
            ("completed", "thread"): 1,
            ("cancelled", "task"): 2,
            ("abandoned", "task"): 1,
        }
        assert telemetry.points("calloff.operation.clean_up") == {
            ("cancelled", "task", "deadline", "ASKED"): 1,
            ("cancelled", "task", "requested", "ASKED"): 1,
            ("abandoned", "task", "requested", "ABANDONED"): 1,
        }


def test_names_in_metrics_and_no_spans(telemetry):
    async def main():
        await calloff.call(asyncio.sleep(0), name="one")

    with instrument(**telemetry.providers(), spans=False, names=True):
        asyncio.run(main())
    assert telemetry.points("calloff.operations.started") == {("one", "task"): 1}
    assert telemetry.spans() == {}


def test_closing_ends_open_spans_and_reports_nothing_more(telemetry):
    async def main():
        running = await begun(waits(), name="running")
        instrumentation.close()
        instrumentation.close()
        await running.stop()
        await calloff.call(asyncio.sleep(0), name="later")
        return telemetry.points("calloff.operations.running")

    instrumentation = instrument(**telemetry.providers())
    assert asyncio.run(main()) == {}
    assert set(telemetry.spans()) == {"running"}
    assert telemetry.points("calloff.operations.ended") == {}


def test_without_opentelemetry_one_clear_sentence():
    program = """if True:
        import sys
        sys.modules["opentelemetry"] = None
        import calloff
        try:
            import calloff.otel
        except ModuleNotFoundError as error:
            print(error)
    """
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output == "calloff.otel needs OpenTelemetry, which is not installed: pip install 'calloff[otel]'\n"


def test_nobody_loads_it_unasked():
    program = (
        "import asyncio, calloff, calloff.cli, sys\nasync def f(): await calloff.call(asyncio.sleep(0))\n"
        "calloff.run(f())\nprint([m for m in sys.modules if m.startswith(('opentelemetry', 'textual', 'calloff.otel'))])"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output == "[]\n"
