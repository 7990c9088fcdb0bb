-- Every decision of a workflow with its reason, in order: what was passed over, called, retried, asked of another, given up.
ALTER TABLE orchestrator.workflows ADD COLUMN decisions jsonb NOT NULL DEFAULT '[]';

-- A request that was begun and then refused leaves a tombstone for an hour: a statement that was sent before and arrives late
-- finds its id taken. No route shows one.
ALTER TABLE orchestrator.workflows DROP CONSTRAINT workflows_status_check;
ALTER TABLE orchestrator.workflows ADD CONSTRAINT workflows_status_check CHECK (status IN
    ('queued', 'running', 'completed', 'failed', 'manual_review', 'cancelled', 'withdrawn'));

-- What the sweep looks for.
CREATE INDEX workflows_running ON orchestrator.workflows (started_at) WHERE status = 'running';
CREATE INDEX workflows_withdrawn ON orchestrator.workflows (completed_at) WHERE status = 'withdrawn';
