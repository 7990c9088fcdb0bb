-- Ends an attempt: its outcome, the settlement, the workflow's state and the attempts that follow with their reservations,
-- all or nothing, and only while the attempt is pending.
-- $1 the attempt's end, $2 the workflow's state as JSON objects of their columns, $3 the next attempts as a JSON list of
-- such objects, $4 the reservations' lease in milliseconds.
-- Returns how many attempts were settled (0 or 1) and the workflow's state. A workflow that has ended meanwhile keeps its
-- state and gets no further attempt, but its cost.
WITH ending AS (
    SELECT * FROM jsonb_populate_record(NULL::orchestrator.attempts, $1)
), state AS (
    SELECT * FROM jsonb_populate_record(NULL::orchestrator.workflows, $2)
), settled AS (
    UPDATE orchestrator.attempts a
       SET outcome = e.outcome, failure = e.failure, http_status = e.http_status, input_tokens = e.input_tokens,
           cached_input_tokens = e.cached_input_tokens, output_tokens = e.output_tokens, cost = e.cost,
           estimated = e.estimated, duration_ms = e.duration_ms, settled_at = now(),
           -- What was not made is no entry of the ledger.
           projected_at = CASE WHEN e.failure = 'not_sent' THEN now() END
      FROM ending e
     WHERE a.id = e.id AND a.outcome = 'pending'
    RETURNING a.id, a.workflow_id, a.cost
), released AS (
    UPDATE orchestrator.reservations r SET settled_at = now() FROM settled s WHERE r.attempt_id = s.id
), moved AS (
    UPDATE orchestrator.workflows w
       SET cost = w.cost + s.cost,
           (status, current_provider, provider_states, fallback_history, decisions, result, error, completed_at) = (
               SELECT n.status, n.current_provider, n.provider_states, n.fallback_history, n.decisions, n.result, n.error,
                      CASE WHEN n.status = 'running' THEN NULL ELSE now() END
                 FROM state n WHERE w.status = 'running'
                UNION ALL
               SELECT w.status, w.current_provider, w.provider_states, w.fallback_history, w.decisions, w.result, w.error, w.completed_at
                WHERE w.status <> 'running')
      FROM settled s
     WHERE w.id = s.workflow_id
    RETURNING w.status
), intended AS (
    INSERT INTO orchestrator.attempts (id, workflow_id, sequence, user_id, step, request_type, provider, model,
                                       price_version, bound_input_tokens, bound_output_tokens, bound_cost, trace_id, started_at)
    SELECT id, workflow_id, sequence, user_id, step, request_type, provider, model,
           price_version, bound_input_tokens, bound_output_tokens, bound_cost, trace_id, started_at
      FROM jsonb_populate_recordset(NULL::orchestrator.attempts, $3)
     WHERE EXISTS (SELECT FROM moved WHERE status = 'running')
    RETURNING id, user_id, bound_cost
), held AS (
    INSERT INTO orchestrator.reservations (attempt_id, user_id, amount, expires_at)
    SELECT id, user_id, bound_cost, now() + $4 * interval '1 millisecond' FROM intended
)
SELECT (SELECT count(*) FROM settled) AS settled, (SELECT status FROM moved) AS status
