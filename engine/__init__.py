"""An LLM serving engine on MLX with four features that can be switched while it runs."""

#: Version of the engine and of the whole distribution; `pyproject.toml` reads it from here.
__version__ = "0.1.0"
