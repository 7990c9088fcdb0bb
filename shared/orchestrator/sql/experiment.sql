-- What came of an experiment ($1) since a time ($2), by variant and metric: sums over users, for the requests of one user are not
-- independent of each other. `value` of a request that has none counts for nothing.
WITH measured AS (
    SELECT d.variant, w.user_id, m.metric,
           sum(m.value) AS value, count(m.value)::float8 AS requests
      FROM orchestrator.dealt d JOIN orchestrator.workflows w ON w.id = d.workflow_id
     CROSS JOIN LATERAL (VALUES
           ('completed', (w.status = 'completed')::int::float8),
           ('manualReview', (w.status = 'manual_review')::int::float8),
           ('blocked', (coalesce(w.error->>'code', '') = 'compliance_violation')::int::float8),
           ('fellBack', (jsonb_array_length(w.fallback_history) > 0)::int::float8),
           ('cost', w.cost::float8),
           ('duration', extract(epoch FROM w.completed_at - w.started_at)::float8 * 1000),
           ('qualityScore', (w.result#>>'{data,qualityScore}')::float8),
           ('complianceScore', (w.result#>>'{data,complianceScore}')::float8)
           ) AS m (metric, value)
     WHERE d.experiment = $1 AND d.started_at >= $2
       AND w.status IN ('completed', 'failed', 'manual_review')
     GROUP BY 1, 2, 3
)
SELECT variant, metric, count(*) AS users, sum(requests)::bigint AS requests, sum(value) AS value, sum(value * value) AS values_squared,
       sum(value * requests) AS products, sum(requests * requests) AS requests_squared
  FROM measured WHERE requests > 0
 GROUP BY 1, 2 ORDER BY 1, 2
