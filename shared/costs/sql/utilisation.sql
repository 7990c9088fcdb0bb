-- How much of the fullest budget of each scope is spent or reserved in the periods of $1, in per cent.
SELECT max(used) FILTER (WHERE scope = 'user') AS user_scope, max(used) FILTER (WHERE scope = 'global') AS global_scope
  FROM (SELECT b.scope,
               CASE WHEN b.max_cost = 0 THEN 100
                    ELSE round(100 * (coalesce(p.spent, 0) + coalesce(p.reserved, 0)) / b.max_cost, 2) END::float8 AS used
          FROM orchestrator.budgets b
          LEFT JOIN orchestrator.budget_periods p ON p.budget_id = b.id AND p.starts_on = orchestrator.period_start(b.period, $1)
         WHERE b.max_cost IS NOT NULL) u
