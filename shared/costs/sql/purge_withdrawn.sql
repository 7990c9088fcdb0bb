-- Forgets withdrawn workflows ($1: how many at the most) that no late statement can meet any more.
WITH old AS (
    SELECT id FROM orchestrator.workflows
     WHERE status = 'withdrawn' AND completed_at < now() - interval '1 hour'
     ORDER BY completed_at LIMIT $1
), freed AS (
    DELETE FROM orchestrator.reservations r USING orchestrator.attempts a, old WHERE a.workflow_id = old.id AND r.attempt_id = a.id
), forgotten AS (
    DELETE FROM orchestrator.attempts a USING old WHERE a.workflow_id = old.id
)
DELETE FROM orchestrator.workflows w USING old WHERE w.id = old.id
