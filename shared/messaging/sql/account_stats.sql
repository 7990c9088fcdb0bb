-- What waits of a user's accounts, at most so many of them.
-- $1 the user; $2 how many accounts
SELECT a.id, a.status, a.limits, a.paused_reason, greatest(a.resume_at, a.limited_until) AS resume_at, q.queue, q.oldest, q.next_due
  FROM (SELECT * FROM orchestrator.accounts WHERE user_id = $1 ORDER BY created_at DESC, id DESC LIMIT $2) a,
       LATERAL (
        SELECT coalesce(jsonb_agg(jsonb_build_object('status', n.status, 'priority', n.priority, 'messages', n.messages)), '[]') AS queue,
               min(n.oldest) AS oldest, min(n.next_due) AS next_due
          FROM (SELECT orchestrator.shown_status(m.status) AS status, m.priority, count(*) AS messages,
                       min(m.created_at) FILTER (WHERE m.status IN ('queued', 'claimed') AND m.not_before <= now()) AS oldest,
                       min(m.not_before) FILTER (WHERE m.status = 'queued') AS next_due
                  FROM orchestrator.messages m
                 WHERE m.account_id = a.id AND m.status IN ('awaiting_approval', 'queued', 'claimed', 'sending', 'unknown')
                 GROUP BY 1, 2) n) q
 ORDER BY a.created_at DESC, a.id DESC
