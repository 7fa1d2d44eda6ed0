"""Operations as OpenTelemetry spans and metrics. Needs the extra ``otel``: ``pip install 'calloff[otel]'``.

    calloff.otel.instrument()

An operation that was called off did not succeed, so its span says so: status ERROR and ``error.type``, which is
`timeout`, `cancelled` or `abandoned`, or the type of what the body raised. Which cancels are expected, and no errors, is
for the program to say. The span is current in the body, so that spans made there, and operations started there, hang
below it: contextvars carry it into tasks and threads, and its headers go with a function into a process, here and on a
cluster. To a command a program hands over the headers of `opentelemetry.propagate.inject` by itself, in `env`.

This module speaks to the API of OpenTelemetry only. Where spans and metrics go is decided by the SDK that the program
sets up; without one, everything here does nothing. Spans and counters are made on the thread of the event loop: use a
`BatchSpanProcessor`, which sends them from a thread of its own.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Any

try:
    from opentelemetry import context, metrics, propagate, trace
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import Span, Status, StatusCode, TracerProvider
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "calloff.otel needs OpenTelemetry, which is not installed: pip install 'calloff[otel]'", name=_missing.name
    ) from _missing

from ._operation.observers import Observer, failure, ignore, listen
from ._operation.registry import live
from ._operation.snapshot import snatch
from ._words.frame import at_line
from ._words.luggage import Luggage, packers
from ._words.reason import LIMITS, Kind
from ._words.report import StopReport
from ._words.state import State

if TYPE_CHECKING:
    from ._operation.operation import Operation

__all__ = ["Instrumentation", "instrument"]

#: of both histograms, in seconds: from a hand-over to a night's work
_BOUNDARIES = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 36000.0)


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    spans: bool = True,
    expected: Iterable[str] = (),
    names: bool = False,
) -> "Instrumentation":
    """Report every operation of this process from now on. Those that run already are only seen by the gauges.

    Args:
        tracer_provider: where spans go; by default the global one.
        meter_provider: where metrics go; by default the global one.
        spans: ``False`` for metrics only.
        expected: the kinds of reason that are no error: spans of operations that were cancelled for one of them keep
            their status unset, and have no ``error.type``. An abandoned operation is always an error.
        names: have the name of the operation as an attribute of the metrics, too. For programs in which there are few
            of them: each is a time series of its own.

    Returns:
        What ends it: call its `close`, or use it in a ``with`` statement.

    Raises:
        ValueError: `expected` has a kind that does not exist. The caller's fault.

    It is called so:

        calloff.otel.instrument(expected=["sibling", "disconnected"])
    """
    kinds = (expected,) if isinstance(expected, str) else tuple(expected)
    for kind in kinds:
        if kind not in frozenset(Kind):
            raise ValueError(f"expected must be kinds of reason ({', '.join(Kind)}), not {kind!r}")
    instrumentation = Instrumentation(tracer_provider, meter_provider, spans, frozenset(map(Kind, kinds)), names)
    listen(instrumentation)
    packers.append(instrumentation._packed)
    return instrumentation


class Instrumentation(Observer):
    """What `instrument` returns."""

    __slots__ = ("_clean_up", "_closed", "_duration", "_ended", "_expected", "_names", "_spans", "_started", "_tracer")

    def __init__(
        self,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        spans: bool,
        expected: frozenset[Kind],
        names: bool,
    ) -> None:
        release = version("calloff")
        self._expected = expected
        self._names = names
        self._closed = False
        self._spans: dict[Operation[Any], Span] = {}
        self._tracer = trace.get_tracer("calloff", release, tracer_provider) if spans else None
        meter = metrics.get_meter("calloff", release, meter_provider)
        self._started = meter.create_counter(
            "calloff.operations.started", "{operation}", "Operations that were started"
        )
        self._ended = meter.create_counter("calloff.operations.ended", "{operation}", "Operations that ended")
        self._duration = meter.create_histogram(
            "calloff.operation.duration",
            "s",
            "From the start of an operation to its end",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )
        self._clean_up = meter.create_histogram(
            "calloff.operation.clean_up",
            "s",
            "From the request to stop an operation to its end",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )
        meter.create_observable_gauge(
            "calloff.operations.running", [self._running], "{operation}", "Operations that run now, by state"
        )
        meter.create_observable_gauge(
            "calloff.operations.abandoned",
            [self._abandoned],
            "{operation}",
            "Operations that could not be stopped and whose body still runs",
        )

    def close(self) -> None:
        """Report nothing more; spans of operations that still run are ended as they are."""
        ignore(self)
        if self._packed in packers:
            packers.remove(self._packed)
        self._closed = True
        while self._spans:
            self._spans.popitem()[1].end()

    def __enter__(self) -> "Instrumentation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- what the core tells (see `Observer`)

    def started(self, operation: "Operation[Any]", /) -> None:
        """Begin its span, below the one of the code that starts it."""
        self._started.add(1, self._labels(operation))
        if self._tracer is not None:
            about = {"calloff.operation.id": operation.id, "calloff.place": operation.place}
            self._spans[operation] = self._tracer.start_span(operation.name, attributes=about)

    def entered(self, operation: "Operation[Any]", /) -> None:
        """Make its span the current one of the body, whose context this is: it goes with that, and is never reset."""
        span = self._spans.get(operation)
        if span is not None:
            context.attach(trace.set_span_in_context(span))

    def _packed(self, operation: object, luggage: Luggage) -> None:
        """Have its span as the current one of its body in another process, too."""
        span = self._spans.get(operation)  # type: ignore[call-overload]  # anything may be asked for
        if span is not None:
            headers: dict[str, Any] = {}
            propagate.inject(headers, trace.set_span_in_context(span))
            luggage["trace"] = headers

    def asked(self, operation: "Operation[Any]", /) -> None:
        """Note the moment in its span."""
        span, reason = self._spans.get(operation), operation.reason
        if span is not None and reason is not None and span.is_recording():
            span.add_event(
                "stop requested", {"calloff.reason.kind": str(reason.kind), "calloff.reason.text": reason.text}
            )

    def ended(self, operation: "Operation[Any]", /) -> None:
        """End its span, with how it ended."""
        stop = operation._stop
        labels = self._labels(operation)
        labels["calloff.outcome"] = str(operation.state)
        self._duration.record(operation.elapsed, labels)
        if stop is not None:
            labels["calloff.reason.kind"] = str(stop.kind)
        self._ended.add(1, labels)
        if stop is not None and operation._ended_at is not None:
            self._clean_up.record(operation._ended_at - stop.requested_at, labels | {"calloff.rung": str(stop.rung)})
        span = self._spans.pop(operation, None)
        if span is not None:
            if span.is_recording():
                self._describe(span, operation)
            span.end()

    # --- how it is told

    def _labels(self, operation: "Operation[Any]") -> dict[str, str]:
        labels = {"calloff.place": operation.place}
        if self._names:
            labels["calloff.operation.name"] = operation.name
        return labels

    def _describe(self, span: Span, operation: "Operation[Any]") -> None:
        report, error = operation.report, failure(operation)
        span.set_attribute("calloff.outcome", str(operation.state))
        if report is not None:
            span.set_attributes(_evidence(report))
        if error is not None:
            span.record_exception(error)
            _is_error(span, _type_name(error), _text(error))
        elif operation.state is State.ABANDONED:
            _is_error(span, "abandoned", f"could not be stopped ({operation.reason})")
        elif operation.state is State.CANCELLED and report is not None and report.reason.kind not in self._expected:
            _is_error(span, "timeout" if report.reason.kind in LIMITS else "cancelled", str(report.reason))

    def _running(self, _: CallbackOptions) -> Iterator[Observation]:
        return self._count(lambda operation: not operation.done(), by_state=True)

    def _abandoned(self, _: CallbackOptions) -> Iterator[Observation]:
        return self._count(lambda operation: operation.state is State.ABANDONED, by_state=False)

    def _count(self, wanted: Any, *, by_state: bool) -> Iterator[Observation]:
        """Called from the thread of whoever reads the metrics."""
        counts: Counter[tuple[tuple[str, str], ...]] = Counter()
        for operation in () if self._closed else snatch(lambda: live):
            if wanted(operation):
                labels = self._labels(operation)
                if by_state:
                    labels["calloff.state"] = str(operation.state)
                counts[tuple(labels.items())] += 1
        for pairs, number in counts.items():
            yield Observation(number, dict(pairs))


def _evidence(report: StopReport) -> dict[str, Any]:
    about: dict[str, Any] = {
        "calloff.reason.kind": str(report.reason.kind),
        "calloff.rung": str(report.rung),
        "calloff.refusals": report.refusals,
        "calloff.clean_up": report.seconds,
    }
    if report.reason.text:
        about["calloff.reason.text"] = report.reason.text
    if report.reason.by:
        about["calloff.reason.by"] = report.reason.by
    if report.where:
        about["calloff.where"] = at_line(report.where)
    if report.stuck_at:
        about["calloff.stuck_at"] = at_line(report.stuck_at)
    if report.survivors:
        about["calloff.survivors"] = report.survivors
    if report.helped:
        about["calloff.helped"] = report.helped
    return about


def _is_error(span: Span, kind: str, text: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, text))


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""
