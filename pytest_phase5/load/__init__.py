"""Load: one sample format, open-loop schedules, and drivers that run in child processes."""
