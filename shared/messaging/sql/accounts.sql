-- Accounts, the newest first.
-- $1 whose, or null: everybody's; $2 one account, or null; $3, $4 the place behind which it begins, or null; $5 how many
SELECT to_jsonb(a) AS account
  FROM orchestrator.accounts a
 WHERE ($1::text IS NULL OR a.user_id = $1)
   AND ($2::text IS NULL OR a.id = $2)
   AND ($3::timestamptz IS NULL OR (a.created_at, a.id) < ($3, $4))
 ORDER BY a.created_at DESC, a.id DESC
 LIMIT $5
