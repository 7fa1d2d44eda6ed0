"""What Prometheus is told of operations: how many started, how each ended, how long the clean-up took.

    pip install 'calloff[otel]' opentelemetry-sdk opentelemetry-exporter-prometheus
    python examples/prometheus.py

A service calls `prometheus_client.start_http_server(9464)` where this program prints some of it itself.
"""

import asyncio

from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY

import calloff
import calloff.otel


async def answer(seconds):
    await asyncio.sleep(seconds)


async def main():
    async with calloff.group(on_error="collect") as group:
        for _ in range(3):
            group.start(answer(0))
        given_up = group.start(answer(60))
        await asyncio.sleep(0.01)
        given_up.cancel("the client hung up")
        await given_up.outcome()
        group.start(answer(60), timeout=0.05)
    for metric in REGISTRY.collect():
        for sample in metric.samples:
            if sample.name.startswith("calloff_") and sample.name.endswith(("_total", "_count", "_running")):
                labels = [value for name, value in sample.labels.items() if value and not name.startswith("otel_")]
                print(sample.name, *labels, f"{sample.value:g}")


metrics.set_meter_provider(MeterProvider([PrometheusMetricReader()]))
calloff.otel.instrument(expected=["requested"])
calloff.run(main())
