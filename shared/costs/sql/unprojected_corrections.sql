-- Corrections that the ledger has not got yet, at most $1, those of one attempt in their order: the attempt as it is from that
-- correction on.
SELECT a.id, a.workflow_id, a.user_id, a.provider, a.model, a.request_type, a.outcome, a.input_tokens, a.cached_input_tokens,
       a.output_tokens, c.cost, a.estimated, a.price_version, a.trace_id, a.duration_ms, a.started_at, a.cache_saved, c.number, c.cost_before
  FROM orchestrator.corrections c JOIN orchestrator.attempts a ON a.id = c.attempt_id
 WHERE c.projected_at IS NULL
 ORDER BY c.number, c.corrected_at
 LIMIT $1
