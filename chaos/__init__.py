"""Faults that are injected through Toxiproxy and signals, and proven to have happened."""
