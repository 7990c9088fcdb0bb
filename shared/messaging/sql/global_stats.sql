-- Everybody's messages.
-- $1 how many users are named
SELECT (SELECT count(*) FROM (SELECT DISTINCT user_id FROM orchestrator.accounts) u) AS users,
       (SELECT count(DISTINCT t.user_id) FROM orchestrator.message_attempts t
         WHERE t.counts_until > now() - interval '1 hour') AS active,
       (SELECT count(*) FROM orchestrator.message_attempts t
         WHERE t.counts_until > now() - interval '1 minute') AS minute,
       (SELECT coalesce(sum(d.denials), 0)::bigint FROM orchestrator.limiter_denials d
         WHERE d.hour = date_trunc('hour', now())) AS denials,
       (SELECT coalesce(jsonb_agg(jsonb_build_object('userId', v.user_id, 'violations', v.denials)
                                  ORDER BY v.denials DESC, v.user_id), '[]')
          FROM (SELECT user_id, sum(denials) AS denials FROM orchestrator.limiter_denials
                 WHERE hour > now() - interval '24 hours'
                 GROUP BY user_id ORDER BY sum(denials) DESC, user_id LIMIT $1) v) AS violators
