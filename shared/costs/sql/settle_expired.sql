-- Settles attempts whose reservation has run out, at their bound. $1: how many at the most. Returns how many.
-- Locks an attempt before its reservation and its workflow, as advance.sql does, so the two cannot deadlock.
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
    RETURNING a.id, a.workflow_id, a.provider, a.cost
), released AS (
    UPDATE orchestrator.reservations r SET settled_at = now() FROM settled s WHERE r.attempt_id = s.id
), ended AS (
    UPDATE orchestrator.workflows w
       SET status = 'failed', completed_at = now(), cost = w.cost + s.cost,
           provider_states = jsonb_set(w.provider_states, ARRAY[s.provider], '"failed"'),
           error = jsonb_build_object('code', 'internal', 'detail',
               'the request was interrupted; its last call is booked at its upper bound')
      FROM settled s
     WHERE w.id = s.workflow_id AND w.status = 'running'
)
SELECT count(*) FROM settled
