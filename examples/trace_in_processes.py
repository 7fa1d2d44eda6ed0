"""A trace that goes on in worker processes, and log lines there that tell their operation.

    pip install 'calloff[otel]' opentelemetry-sdk
    python examples/trace_in_processes.py

The headers of the operation's span go with the function. Where spans and log lines of a worker go is up to the worker: it
sets up its SDK and its logging, here in the function, in a larger program in a module for `process.configure(preload=...)`.
"""

import logging
import sys

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import calloff
import calloff.logs
import calloff.otel


def shrink(image):
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(calloff.logs.WithOperation())
    handler.setFormatter(logging.Formatter("%(operation_name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])

    tracer = TracerProvider().get_tracer("worker")
    with tracer.start_as_current_span("resize") as span:
        logging.info("resizing %s", image)
        return span.get_span_context().trace_id, span.parent.span_id


async def main():
    with trace.get_tracer("example").start_as_current_span("request") as request:
        operation = calloff.start(calloff.process(shrink, "cat.png"), name="shrink-cat")
        trace_id, parent = await operation
    print("the same trace:", trace_id == request.get_span_context().trace_id)
    print("below the operation, not the request:", parent != request.get_span_context().span_id)


if __name__ == "__main__":
    trace.set_tracer_provider(TracerProvider())
    calloff.otel.instrument()
    calloff.run(main())
