-- Takes a workflow ($1, a JSON object of its columns) back of which nothing was called. A tombstone with its id stays, so that
-- a begin that was sent before and arrives late changes nothing; its Idempotency-Key is free.
-- An attempt that is committed beside this statement is not seen here: the sweep settles it at nothing.
WITH wanted AS (
    SELECT * FROM jsonb_populate_record(NULL::orchestrator.workflows, $1)
), seen AS (
    INSERT INTO orchestrator.users (id) SELECT user_id FROM wanted ON CONFLICT DO NOTHING
), tombstone AS (
    INSERT INTO orchestrator.workflows AS w (id, user_id, requested_by, request_hash, type, intent, status, provider_states,
                                             request_id, trace_id, started_at, completed_at)
    SELECT id, user_id, requested_by, request_hash, type, intent, 'withdrawn', provider_states,
           request_id, trace_id, started_at, now()
      FROM wanted
        ON CONFLICT (id) DO UPDATE SET status = 'withdrawn', idempotency_key = NULL, completed_at = now()
     WHERE w.status = 'running'
), settled AS (
    UPDATE orchestrator.attempts a
       SET outcome = 'failed', failure = 'not_sent', cost = 0, input_tokens = 0, cached_input_tokens = 0, output_tokens = 0,
           settled_at = now(), projected_at = now()
      FROM wanted
     WHERE a.workflow_id = wanted.id AND a.outcome = 'pending'
    RETURNING a.id
)
UPDATE orchestrator.reservations r SET settled_at = now() FROM settled s WHERE r.attempt_id = s.id
