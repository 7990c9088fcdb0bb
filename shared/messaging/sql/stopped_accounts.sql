-- The accounts that $1 failures in a row stopped, $2 at the most. `open`: nothing is sent before; `half_open`: the next message finds out.
SELECT jsonb_strip_nulls(jsonb_build_object(
           'accountId', a.id, 'userId', a.user_id, 'failures', a.failures,
           'state', CASE WHEN a.resume_at > now() THEN 'open' ELSE 'half_open' END,
           'openUntil', CASE WHEN a.resume_at > now() THEN orchestrator.rfc3339(a.resume_at) END)) AS account
  FROM orchestrator.accounts a
 WHERE a.failures > 0 AND a.failures >= $1
 ORDER BY a.id
 LIMIT $2
