-- Attempts that are booked at their bound and can still be corrected, oldest first, after ($1 started_at, $2 id; NULL: from the
-- oldest), at most $3.
SELECT id, workflow_id, user_id, provider, model, failure, cost, started_at
  FROM orchestrator.attempts
 WHERE estimated AND projected_at IS NOT NULL AND started_at >= now() - interval '90 days'
   AND ($1::timestamptz IS NULL OR (started_at, id) > ($1, $2))
 ORDER BY started_at, id
 LIMIT $3
