"""Reads a page of metrics from stdin with the parser of its format: one JSON object of the families."""
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

families, seen = {}, set()
for family in {"plain": plain, "openmetrics": openmetrics}[sys.argv[1]](sys.stdin.read()):
    assert family.name not in families, f"{family.name} comes twice"
    for sample in family.samples:
        series = (sample.name, tuple(sorted(sample.labels.items())))
        assert series not in seen, f"{series} comes twice"
        seen.add(series)
    families[family.name] = {"type": family.type, "samples": [[s.name, s.labels, s.value] for s in family.samples]}
print(json.dumps(families))
