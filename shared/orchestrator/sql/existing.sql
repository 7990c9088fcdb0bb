-- The workflow of an id ($1), or of a user's ($2) Idempotency-Key ($3).
SELECT id, request_hash, status, result, error, handed_over
  FROM orchestrator.workflows
 WHERE (id = $1 OR (user_id = $2 AND idempotency_key = $3)) AND status <> 'withdrawn'
