"""`phase5 watch`: the guard. What it decides is pure (`sight`, `plan`); the rest does it."""
