-- A workflow ($1) that waits for a person, as whoever claims one has it.
SELECT to_jsonb(w) AS workflow, w.request_hash AS body_hash, r.decision,
       (SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'sequence', a.sequence, 'step', a.step, 'provider', a.provider, 'model', a.model, 'price_version', a.price_version,
                   'outcome', a.outcome, 'input_tokens', a.input_tokens, 'cached_input_tokens', a.cached_input_tokens,
                   'output_tokens', a.output_tokens, 'cost', a.cost::text, 'estimated', a.estimated, 'lost', false)
                   ORDER BY a.sequence), '[]')
          FROM orchestrator.attempts a WHERE a.workflow_id = w.id AND a.outcome <> 'pending') AS attempts
  FROM orchestrator.workflows w JOIN orchestrator.reviews r ON r.workflow_id = w.id
 WHERE w.id = $1
