-- A user's messages, the newest first.
-- $1 the user; $2 an account or null; $3 statuses or null; $4, $5 the place behind which it begins, or null; $6 how many
SELECT to_jsonb(m) AS message
  FROM orchestrator.messages m
 WHERE m.user_id = $1
   AND ($2::text IS NULL OR m.account_id = $2)
   AND ($3::text[] IS NULL OR m.status = ANY ($3))
   AND ($4::timestamptz IS NULL OR (m.created_at, m.id) < ($4, $5))
 ORDER BY m.created_at DESC, m.id DESC
 LIMIT $6
