"""What checks and tries `template.yaml`.

`template` reads it, and makes of it what a deployment sends; `check` is `scripts/check-template`, `command` and `drive` are
`scripts/try-aws`, `cloud` is the cloud that it is deployed to.
"""
