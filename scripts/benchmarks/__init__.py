"""The benchmarks of `scripts/bench`, each of which measures promises and says whether they hold.

`command` is the command line, `report` what it prints. `system` starts the real binaries, `dynamodb` speaks to their
engine, `endpoint` is an ops side that misbehaves, `load` is the portal. The others are one benchmark each.
"""
