"""The judge's own operating characteristics, measured on synthetic traffic."""
