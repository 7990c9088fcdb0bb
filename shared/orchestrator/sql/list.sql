-- A page of a user's ($1) workflows, newest first, with status $2 (NULL: any), after ($3 started_at, $4 id; NULL: from the
-- newest), $5: the page's size. Attempts as in one.sql, without what a list does not show.
SELECT w.id, w.user_id, w.type, w.status, w.current_provider, orchestrator.with_message(w.provider_states, w.id) AS provider_states, w.fallback_history, w.cost, NULL::jsonb AS result,
       w.error, w.started_at, w.completed_at, NULL::jsonb AS decisions,
       jsonb_array_length(jsonb_path_query_array(w.decisions, '$[*] ? (@.action == "retry")')) AS retries,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'id', a.id, 'provider', a.provider, 'outcome', a.outcome, 'failure', a.failure, 'inputTokens', a.input_tokens,
                   'outputTokens', a.output_tokens, 'cost', a.cost::text, 'cached', a.cache_saved IS NOT NULL) ORDER BY a.sequence), '[]')
          FROM orchestrator.attempts a WHERE a.workflow_id = w.id) AS attempts
  FROM orchestrator.workflows w
 WHERE w.user_id = $1 AND w.status <> 'withdrawn' AND ($2::text IS NULL OR w.status = $2)
   AND ($3::timestamptz IS NULL OR (w.started_at, w.id) < ($3, $4))
 ORDER BY w.started_at DESC, w.id DESC
 LIMIT $5
