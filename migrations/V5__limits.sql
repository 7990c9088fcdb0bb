-- The limiter's logs are in Redis, and what they hold is only as good as its memory. A log that lost its memory is restored from
-- the attempts that are written down here; each time it has a later generation, and permits that were granted by an earlier one
-- are not taken any more (ADR 0015).
CREATE TABLE orchestrator.limiter_logs (
    -- `account:<id>`, `user:<id>`, `global:<shard>`.
    subject    text PRIMARY KEY,
    generation bigint NOT NULL
);

-- Whether logs have the generations that granted a permit: an object of their subjects. Until the transaction ends, none of
-- them is restored: the attempt that it writes down is in the log that is.
CREATE FUNCTION orchestrator.permits_hold(generations jsonb) RETURNS boolean
    LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM orchestrator.limiter_logs l
      WHERE l.subject IN (SELECT jsonb_object_keys(generations)) ORDER BY l.subject FOR SHARE;
    RETURN NOT EXISTS (
        SELECT FROM jsonb_each_text(generations) held
          LEFT JOIN orchestrator.limiter_logs l ON l.subject = held.key
         WHERE l.generation IS DISTINCT FROM held.value::bigint);
END $$;

-- On which of so many shards an account is: that of the user it belongs to.
CREATE FUNCTION orchestrator.limiter_shard(user_id text, shards integer) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT
    RETURN (get_byte(sha256(convert_to(user_id, 'UTF8')), 0) * 256 + get_byte(sha256(convert_to(user_id, 'UTF8')), 1)) % shards;

-- Begins the next generation of logs, and gives what each has to hold: the attempts that still count, the latest ones if there are
-- more than any limit. logs: a list of `subject`, `window_ms`, and whose it is: `account`, `user`, or `shard` of `shards`; `watching`:
-- it is to be as if the limiter had denied what it only watched.
-- permits: a list of attempts; `age_us`: for so long they have not been able to reach the fan any more, less than 0: they still are.
-- Sent twice, it begins two generations, and the first is not taken.
CREATE FUNCTION orchestrator.recall_permits(logs jsonb, most bigint) RETURNS TABLE (log text, raised bigint, permits jsonb)
    LANGUAGE plpgsql AS $$
DECLARE
    wanted jsonb;
    watching boolean;
    moment timestamptz;
    since timestamptz;
BEGIN
    FOR wanted IN SELECT l FROM jsonb_array_elements(logs) l ORDER BY l ->> 'subject' LOOP
        log := wanted ->> 'subject';
        watching := wanted ? 'watching';
        INSERT INTO orchestrator.limiter_logs AS l (subject, generation) VALUES (log, 1)
            ON CONFLICT (subject) DO UPDATE SET generation = l.generation + 1
            RETURNING l.generation INTO raised;
        -- Behind the lock: whatever was begun by an earlier generation is seen by now, and no more is.
        moment := clock_timestamp();
        since := moment - make_interval(secs => (wanted ->> 'window_ms')::bigint / 1000.0);
        SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'message', a.message_id, 'attempt', a.attempt, 'account', a.account_id, 'recipient', a.recipient_id,
                   'type', a.message_type,
                   'age_us', (extract(epoch FROM moment - a.counts_until) * 1000000)::bigint)), '[]')
          INTO permits
          FROM (SELECT t.* FROM orchestrator.message_attempts t
                 WHERE t.account_id = wanted ->> 'account' AND t.counts_until > since AND NOT (t.watched AND watching)
                 UNION ALL
                SELECT t.* FROM orchestrator.message_attempts t
                 WHERE t.user_id = wanted ->> 'user' AND t.counts_until > since AND NOT (t.watched AND watching)
                 UNION ALL
                SELECT t.* FROM orchestrator.message_attempts t
                 WHERE wanted ? 'shard' AND t.counts_until > since AND NOT (t.watched AND watching)
                   AND orchestrator.limiter_shard(t.user_id, (wanted ->> 'shards')::integer) = (wanted ->> 'shard')::integer
                 ORDER BY counts_until DESC LIMIT most) a;
        RETURN NEXT;
    END LOOP;
END $$;
