"""The standard gate suite: runnable by any team against its own model, command or URL."""
