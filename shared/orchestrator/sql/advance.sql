-- Ends an attempt: its outcome, the settlement, the workflow's state and, where there is one, the next attempt's intent
-- with its reservation, all or nothing, and only while the attempt is pending.
-- $1 the attempt's end, $2 the workflow's state and $3 the next attempt (or NULL) as JSON objects of their columns,
-- $4 the reservation's lease in milliseconds. Returns how many attempts were settled: 0 or 1.
WITH ending AS (
    SELECT * FROM jsonb_populate_record(NULL::orchestrator.attempts, $1)
), state AS (
    SELECT * FROM jsonb_populate_record(NULL::orchestrator.workflows, $2)
), settled AS (
    UPDATE orchestrator.attempts a
       SET outcome = e.outcome, failure = e.failure, http_status = e.http_status, input_tokens = e.input_tokens,
           cached_input_tokens = e.cached_input_tokens, output_tokens = e.output_tokens, cost = e.cost,
           estimated = e.estimated, duration_ms = e.duration_ms, settled_at = now()
      FROM ending e
     WHERE a.id = e.id AND a.outcome = 'pending'
    RETURNING a.id, a.workflow_id, a.cost
), released AS (
    UPDATE orchestrator.reservations r SET settled_at = now() FROM settled s WHERE r.attempt_id = s.id
), moved AS (
    UPDATE orchestrator.workflows w
       SET status = state.status, current_provider = state.current_provider, provider_states = state.provider_states,
           fallback_history = state.fallback_history, result = state.result, error = state.error,
           cost = w.cost + s.cost, completed_at = CASE WHEN state.status = 'running' THEN NULL ELSE now() END
      FROM settled s, state
     WHERE w.id = s.workflow_id AND w.status = 'running'
    RETURNING w.id
), intended AS (
    INSERT INTO orchestrator.attempts (id, workflow_id, sequence, user_id, step, request_type, provider, model,
                                       price_version, bound_input_tokens, bound_output_tokens, bound_cost, trace_id, started_at)
    SELECT id, workflow_id, sequence, user_id, step, request_type, provider, model,
           price_version, bound_input_tokens, bound_output_tokens, bound_cost, trace_id, started_at
      FROM jsonb_populate_record(NULL::orchestrator.attempts, $3)
     WHERE $3 IS NOT NULL AND EXISTS (SELECT FROM moved)
    RETURNING id, user_id, bound_cost
), held AS (
    INSERT INTO orchestrator.reservations (attempt_id, user_id, amount, expires_at)
    SELECT id, user_id, bound_cost, now() + $4 * interval '1 millisecond' FROM intended
)
SELECT count(*) FROM settled
