"""Prometheus' rules, generated from `gates.yaml`, so that each threshold stands in one place."""
