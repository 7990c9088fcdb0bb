-- What the limits count of a user's messages now, and how often they denied. An attempt counts until so long after it can have
-- reached its fan.
-- $1 the user; $2 a minute's length in milliseconds, as the limits count it
SELECT (SELECT count(*) FROM orchestrator.message_attempts t
         WHERE t.user_id = $1 AND t.counts_until > now() - make_interval(secs => $2 / 1000.0)) AS minute,
       (SELECT min(t.counts_until) FROM orchestrator.message_attempts t
         WHERE t.user_id = $1 AND t.counts_until > now() - make_interval(secs => $2 / 1000.0)) AS oldest,
       (SELECT count(DISTINCT (t.account_id, t.recipient_id)) FROM orchestrator.message_attempts t
         WHERE t.user_id = $1 AND t.counts_until > now() - interval '1 hour') AS recipients,
       (SELECT coalesce(jsonb_object_agg(d.layer, d.denials), '{}')
          FROM (SELECT layer, sum(denials) AS denials FROM orchestrator.limiter_denials
                 WHERE user_id = $1 AND hour > now() - interval '24 hours' GROUP BY layer) d) AS violations
