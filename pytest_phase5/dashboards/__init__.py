"""Grafana dashboards as code: pure functions from a policy to what stands in `config/grafana`."""
