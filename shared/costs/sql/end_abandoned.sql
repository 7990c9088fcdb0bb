-- Ends the workflows that nobody drives any more: every attempt is settled, and whoever settled the last one could not write
-- the end. No request takes so long. Returns their ids.
UPDATE orchestrator.workflows w
   SET status = 'failed', completed_at = now(),
       error = coalesce(w.error, jsonb_build_object('code', 'internal',
           'detail', 'the request was interrupted; what it had cost until then is booked')),
       decisions = w.decisions || jsonb_build_object(
           'at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
           'step', (SELECT a.step FROM orchestrator.attempts a WHERE a.workflow_id = w.id ORDER BY a.sequence DESC LIMIT 1),
           'action', 'stop', 'reason', 'interrupted')
 WHERE w.status = 'running' AND NOT w.handed_over AND w.started_at < now() - interval '5 minutes'
   AND NOT EXISTS (SELECT FROM orchestrator.attempts a WHERE a.workflow_id = w.id AND a.outcome = 'pending')
RETURNING w.id
