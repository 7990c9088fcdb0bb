-- The letters of workflows that nobody was told of: of workflow $1, or of all where that is NULL; the oldest first, $2 at the most; each
-- once in five minutes.
UPDATE orchestrator.dead_letters l
   SET put_at = now()
  FROM (SELECT id
          FROM orchestrator.dead_letters
         WHERE kind = 'workflow' AND told_at IS NULL AND ($1::text IS NULL OR workflow_id = $1)
           AND (put_at IS NULL OR put_at < now() - interval '5 minutes')
         ORDER BY received_at
         LIMIT $2
           FOR UPDATE SKIP LOCKED) due
 WHERE l.id = due.id
RETURNING l.id, l.workflow_id, l.reason
