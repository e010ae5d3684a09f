"""`phase5 bench`: this engine beside what a user would run instead, in interleaved rounds."""
