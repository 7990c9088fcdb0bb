-- Takes a workflow ($1) back whose only attempt was never called.
WITH reserved AS (
    DELETE FROM orchestrator.reservations r USING orchestrator.attempts a
     WHERE a.workflow_id = $1 AND a.outcome = 'pending' AND r.attempt_id = a.id
), intended AS (
    DELETE FROM orchestrator.attempts WHERE workflow_id = $1 AND outcome = 'pending'
)
DELETE FROM orchestrator.workflows WHERE id = $1 AND status = 'running'
