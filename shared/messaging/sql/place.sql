-- Where a message stands among those of its account, and what it is held up by. What is being sent has its permit already: it is
-- before this one, and counts for no limit any more.
-- $1 its id
WITH wanted AS (SELECT * FROM orchestrator.messages WHERE id = $1),
     ahead AS (
        SELECT q.status, q.recipient_id, q.message_type FROM orchestrator.messages q, wanted m
         WHERE q.account_id = m.account_id AND q.status = 'queued' AND (q.rank_at, q.id) < (m.rank_at, m.id)
           AND q.not_before <= greatest(m.not_before, now())
         UNION ALL
        SELECT q.status, q.recipient_id, q.message_type FROM orchestrator.messages q, wanted m
         WHERE q.account_id = m.account_id AND q.status IN ('claimed', 'sending') AND q.id <> m.id)
SELECT a.status AS account_status, a.limits, greatest(a.resume_at, a.limited_until) AS resume_at, n.*
  FROM wanted m
  JOIN orchestrator.accounts a ON a.id = m.account_id,
       LATERAL (SELECT count(*) AS position,
                       count(*) FILTER (WHERE ahead.status <> 'sending') AS messages,
                       count(*) FILTER (WHERE ahead.status <> 'sending' AND ahead.recipient_id = m.recipient_id) AS to_the_fan,
                       count(*) FILTER (WHERE ahead.status <> 'sending' AND ahead.message_type = m.message_type) AS of_the_type,
                       count(DISTINCT ahead.recipient_id) FILTER (WHERE ahead.status <> 'sending'
                                                                    AND ahead.recipient_id <> m.recipient_id) AS other_fans
                  FROM ahead) n
