-- Settles attempts whose reservation has run out, at their bound. $1: how many at the most. Returns what was
-- booked, a row an attempt.
-- Whoever ends an attempt holds its row first, here and in advance.sql; its reservation and workflow come after.
WITH due AS (
    SELECT a.id
      FROM orchestrator.reservations r JOIN orchestrator.attempts a ON a.id = r.attempt_id
     WHERE r.settled_at IS NULL AND r.expires_at < now() AND a.outcome = 'pending'
     ORDER BY r.expires_at
     LIMIT $1
       FOR UPDATE OF a SKIP LOCKED
), settled AS (
    UPDATE orchestrator.attempts a
       SET outcome = 'unknown', failure = 'interrupted', estimated = true, settled_at = now(), cost = bound_cost,
           input_tokens = bound_input_tokens, cached_input_tokens = 0, output_tokens = bound_output_tokens
      FROM due
     WHERE a.id = due.id
    RETURNING a.id, a.workflow_id, a.step, a.provider, a.model, a.trace_id, a.cost, a.input_tokens + a.output_tokens AS tokens
), released AS (
    UPDATE orchestrator.reservations r SET settled_at = now() FROM settled s WHERE r.attempt_id = s.id
), booked AS (
    -- One row a workflow: an UPDATE would take only one of several.
    SELECT workflow_id, sum(cost) AS cost, min(step) AS step, array_agg(DISTINCT provider) AS providers
      FROM settled GROUP BY workflow_id
), ended AS (
    UPDATE orchestrator.workflows w
       SET cost = w.cost + b.cost,
           provider_states = w.provider_states || (SELECT jsonb_object_agg(p, 'failed') FROM unnest(b.providers) p),
           completed_at = coalesce(w.completed_at, now()),
           decisions = CASE WHEN w.status <> 'running' THEN w.decisions ELSE w.decisions || jsonb_build_object(
               'at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'step', b.step,
               'action', 'stop', 'reason', 'interrupted') END,
           status = CASE WHEN w.status = 'running' THEN 'failed' ELSE w.status END,
           error = CASE WHEN w.status <> 'running' THEN w.error ELSE coalesce(w.error, jsonb_build_object('code', 'internal',
               'detail', 'the request was interrupted; its last calls are booked at their upper bounds')) END
      FROM booked b
     WHERE w.id = b.workflow_id
)
SELECT id, provider, model, trace_id, cost, tokens FROM settled
