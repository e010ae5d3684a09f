"""What the composite actions run: `python -P -m gates.actions gate` and `... apply`.

Inputs come as `INPUT_NAME` in the environment, never as part of a command line that a shell reads.
"""
