-- Every decision of a workflow with its reason, in order: what was passed over, called, retried, asked of another, given up.
ALTER TABLE orchestrator.workflows ADD COLUMN decisions jsonb NOT NULL DEFAULT '[]';
