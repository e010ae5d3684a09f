"""Locust as a driver: the same plan, the same files, another sender.

```text
run_plan ── starts ──> python -m pytest_phase5.load.locust_driver PLAN OUT     (__main__)
                         asks the models, merges rows, cross-checks, reports
                           └─ starts ──> python -m locust -f locustfile.py      (tree, command)
                                           one process, or a master and its forks, or a master
                                           that waits for workers on other machines (crew)
                                             each walks its share of the schedule (share, flights)
```

Locust is never imported in a process of ours: it patches the standard library on import.
Modules marked "inside Locust" run in its processes alone, in an interpreter that may not be
ours, and need nothing but Locust and the standard library.
"""
