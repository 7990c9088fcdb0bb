-- A message, with its attempts and what people decided about it.
-- $1 its id
SELECT to_jsonb(m) AS message,
       (SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY t.attempt), '[]')
          FROM orchestrator.message_attempts t WHERE t.message_id = m.id) AS attempts,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('action', l.action, 'actor', l.actor, 'at', l.at, 'reason', l.reason)
                                  ORDER BY l.at, l.id), '[]')
          FROM orchestrator.audit_log l WHERE l.subject = 'message:' || m.id) AS decisions
  FROM orchestrator.messages m
 WHERE m.id = $1
