"""The system on one machine: private stores, an AWS emulator and the project's own template deployed to it."""

# Of the CloudFormation stack, and so the first word of every function's name.
STACK_NAME = "huntaze"

# The route that says whether it serves.
HEALTH = "/api/health/hybrid-orchestrator"
