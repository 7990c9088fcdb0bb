-- One workflow ($1) with its attempts.
SELECT w.id, w.user_id, w.type, w.status, w.current_provider, orchestrator.with_message(w.provider_states, w.id) AS provider_states, w.fallback_history, w.cost, w.result,
       w.error, w.started_at, w.completed_at, w.decisions,
       jsonb_array_length(jsonb_path_query_array(w.decisions, '$[*] ? (@.action == "retry")')) AS retries,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'id', a.id, 'step', a.step, 'provider', a.provider, 'model', a.model, 'outcome', a.outcome,
                   'failure', a.failure, 'httpStatus', a.http_status, 'inputTokens', a.input_tokens,
                   'cachedInputTokens', a.cached_input_tokens, 'outputTokens', a.output_tokens, 'cost', a.cost::text,
                   'boundCost', a.bound_cost::text, 'estimated', a.estimated, 'priceVersion', a.price_version,
                   'cached', a.cache_saved IS NOT NULL, 'savedCost', a.cache_saved::text, 'durationMs', a.duration_ms, 'startedAt', a.started_at) ORDER BY a.sequence), '[]')
          FROM orchestrator.attempts a WHERE a.workflow_id = w.id) AS attempts
  FROM orchestrator.workflows w
 WHERE w.id = $1 AND w.status <> 'withdrawn'
