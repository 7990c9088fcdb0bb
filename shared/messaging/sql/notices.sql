-- What somebody has to be told of messages, the oldest first.
-- $1 of which message, or null: of any; $2 noted before, or null; $3 how many
SELECT to_jsonb(n) || jsonb_build_object('account_id', m.account_id, 'user_id', m.user_id) AS notice
  FROM orchestrator.message_notices n JOIN orchestrator.messages m ON m.id = n.message_id
 WHERE ($1::text IS NULL OR n.message_id = $1)
   AND ($2::timestamptz IS NULL OR n.noted_at < $2)
 ORDER BY n.noted_at, n.id
 LIMIT $3
