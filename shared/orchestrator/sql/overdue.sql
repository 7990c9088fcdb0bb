-- The workflows that have been due for $1 milliseconds and more, the longest first, $2 at the most; each once in five minutes, so that a
-- queue that is long is not made longer.
UPDATE orchestrator.workflows w
   SET hinted_at = now()
  FROM (SELECT id
          FROM orchestrator.workflows
         WHERE due_at < now() - $1 * interval '1 millisecond'
           AND (hinted_at IS NULL OR hinted_at < due_at OR hinted_at < now() - interval '5 minutes')
         ORDER BY due_at
         LIMIT $2
           FOR UPDATE SKIP LOCKED) due
 WHERE w.id = due.id
RETURNING w.id, w.user_id
