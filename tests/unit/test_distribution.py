"""Histograms of our own tell the same as those of Prometheus' client library."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import HistogramMetricFamily

from libs.distribution import Distribution

BOUNDS = (0.001, 0.25, 1.0, 2.5, 64.0)


@given(st.lists(st.one_of(st.sampled_from(BOUNDS), st.floats(0, 1000))))
def test_as_the_client_library_counts(values: list[float]) -> None:
    theirs = Histogram("it", "It.", ("label",), buckets=BOUNDS, registry=CollectorRegistry())
    ours = Distribution(BOUNDS)
    child = theirs.labels("a")
    for value in values:
        child.observe(value)
        ours.note(value)
    family = HistogramMetricFamily("it", "It.", labels=("label",))
    ours.add_to(family, ("a",))
    expected = [(sample.name, sample.labels, sample.value) for sample in next(iter(theirs.collect())).samples]
    told = [(sample.name, sample.labels, sample.value) for sample in family.samples]
    assert sorted(told, key=str) == sorted((each for each in expected if not each[0].endswith("_created")), key=str)
