-- Settles at nothing the attempts of withdrawn workflows: they were committed beside the withdrawal, and never called.
WITH settled AS (
    UPDATE orchestrator.attempts a
       SET outcome = 'failed', failure = 'not_sent', cost = 0, input_tokens = 0, cached_input_tokens = 0, output_tokens = 0,
           settled_at = now(), projected_at = now()
      FROM orchestrator.workflows w
     WHERE w.status = 'withdrawn' AND a.workflow_id = w.id AND a.outcome = 'pending'
    RETURNING a.id
)
UPDATE orchestrator.reservations r SET settled_at = now() FROM settled s WHERE r.attempt_id = s.id
