"""SLO markers, engine fixtures and rollout gates for pytest."""
