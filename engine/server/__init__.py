"""The HTTP shell around the engine: OpenAI API, admin, metrics, both listeners."""
