"""The process that owns the model, and the supervisor in the front end that owns that process."""
