-- What was judged since $1 (of account $2, where one is named): at most $3 rules and $3 accounts, what was blocked most first.
WITH judged AS MATERIALIZED (
    SELECT * FROM orchestrator.judgements WHERE at >= $1 AND ($2::text IS NULL OR account_id = $2)
), found AS (
    SELECT j.account_id, j.user_id, j.verdict, f ->> 'rule' AS rule, f ->> 'category' AS category
      FROM judged j, jsonb_array_elements(j.findings) f
), broken AS (
    SELECT user_id, account_id, jsonb_object_agg(rule, times) AS rules
      FROM (SELECT user_id, account_id, rule, count(*) AS times FROM found WHERE verdict = 'block' GROUP BY 1, 2, 3) t
     GROUP BY 1, 2
)
SELECT jsonb_build_object(
    'judged', (SELECT count(*) FROM judged),
    'reviewed', (SELECT count(*) FROM judged WHERE verdict = 'review'),
    'blocked', (SELECT count(*) FROM judged WHERE verdict = 'block'),
    'byOrigin', (SELECT coalesce(jsonb_object_agg(origin, n), '{}') FROM (SELECT origin, count(*) AS n FROM judged GROUP BY 1) o),
    'byRuleVersion', (SELECT coalesce(jsonb_object_agg(rule_version, n), '{}')
                        FROM (SELECT rule_version, count(*) AS n FROM judged GROUP BY 1) v),
    'byRule', (SELECT coalesce(jsonb_agg(jsonb_build_object('rule', rule, 'category', category, 'blocked', blocked, 'reviewed', reviewed,
                                                            'accounts', accounts) ORDER BY blocked DESC, reviewed DESC, rule), '[]')
                 FROM (SELECT rule, category, count(*) FILTER (WHERE verdict = 'block') AS blocked,
                              count(*) FILTER (WHERE verdict = 'review') AS reviewed,
                              count(DISTINCT account_id) FILTER (WHERE verdict <> 'allow') AS accounts
                         FROM found GROUP BY rule, category
                        ORDER BY blocked DESC, reviewed DESC, rule LIMIT $3) r),
    'byAccount', (SELECT coalesce(jsonb_agg(jsonb_build_object('accountId', a.account_id, 'userId', a.user_id, 'judged', n,
                                                               'blocked', blocked, 'reviewed', reviewed,
                                                               'rules', coalesce(b.rules, '{}'))
                                            ORDER BY blocked DESC, reviewed DESC, a.user_id, a.account_id), '[]')
                    FROM (SELECT account_id, user_id, count(*) AS n, count(*) FILTER (WHERE verdict = 'block') AS blocked,
                                 count(*) FILTER (WHERE verdict = 'review') AS reviewed
                            FROM judged GROUP BY account_id, user_id
                           ORDER BY blocked DESC, reviewed DESC, user_id, account_id LIMIT $3) a
                    LEFT JOIN broken b ON b.user_id = a.user_id AND b.account_id IS NOT DISTINCT FROM a.account_id),
    'accounts', (SELECT count(DISTINCT (account_id, user_id)) FROM judged)) AS report
