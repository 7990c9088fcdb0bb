-- A page of settled attempts that are not marked as projected, oldest first, after ($1 settled_at, $2 id), settled
-- before $3; $4: the page's size.
SELECT id, workflow_id, user_id, provider, model, request_type, outcome, input_tokens, cached_input_tokens, output_tokens,
       cost, estimated, price_version, trace_id, duration_ms, started_at, cache_saved, settled_at
  FROM orchestrator.attempts
 WHERE settled_at IS NOT NULL AND projected_at IS NULL AND (settled_at, id) > ($1, $2) AND settled_at < $3
 ORDER BY settled_at, id
 LIMIT $4
