-- Accepts a request: the user seen, the workflow, its first attempt's intent and the reservation, all or nothing.
-- $1 the workflow and $2 the attempt as JSON objects of their columns, $3 the reservation's lease in milliseconds.
-- Returns how many workflows are new: 0 where this id or this user's Idempotency-Key is there already.
WITH wanted AS (
    SELECT * FROM jsonb_populate_record(NULL::orchestrator.workflows, $1)
), seen AS (
    INSERT INTO orchestrator.users AS u (id) SELECT user_id FROM wanted
        ON CONFLICT (id) DO UPDATE SET last_seen_at = now() WHERE u.last_seen_at < now() - interval '1 hour'
), fresh AS (
    INSERT INTO orchestrator.workflows (id, user_id, requested_by, idempotency_key, request_hash, type, intent, status,
                                        current_provider, provider_states, decisions, request_id, trace_id, started_at)
    SELECT id, user_id, requested_by, idempotency_key, request_hash, type, intent, 'running',
           current_provider, provider_states, decisions, request_id, trace_id, started_at
      FROM wanted
        ON CONFLICT DO NOTHING
    RETURNING id
), intended AS (
    INSERT INTO orchestrator.attempts (id, workflow_id, sequence, user_id, step, request_type, provider, model,
                                       price_version, bound_input_tokens, bound_output_tokens, bound_cost, trace_id, started_at)
    SELECT id, workflow_id, sequence, user_id, step, request_type, provider, model,
           price_version, bound_input_tokens, bound_output_tokens, bound_cost, trace_id, started_at
      FROM jsonb_populate_record(NULL::orchestrator.attempts, $2)
     WHERE EXISTS (SELECT FROM fresh)
    RETURNING id, user_id, bound_cost
), held AS (
    INSERT INTO orchestrator.reservations (attempt_id, user_id, amount, expires_at)
    SELECT id, user_id, bound_cost, now() + $3 * interval '1 millisecond' FROM intended
)
SELECT count(*) FROM fresh
