-- A workflow whose last text was kept and its end was not (the store failed in between) ends where it is taken up next: with its text,
-- and with the message that it is sent as.

-- The text of a workflow that has completed is taken on as a message, which the workflow's result says as well (as accept_message).
-- message_status NULL: it was not.
CREATE FUNCTION orchestrator.send_text(message jsonb, policy text, step_ms bigint, OUT message_status text, OUT wake_ms bigint)
    LANGUAGE plpgsql AS $$
BEGIN
    SELECT (m.accepted).status, m.wake_ms INTO message_status, wake_ms
      FROM orchestrator.accept_message(message, policy, true, step_ms, 0, NULL) m;
    UPDATE orchestrator.workflows w SET result = jsonb_set(w.result, '{data,onlyFans,status}', to_jsonb(message_status))
     WHERE w.id = message ->> 'workflow_id' AND message_status IS NOT NULL;
END $$;

-- As V4 has it.
CREATE OR REPLACE FUNCTION orchestrator.advance_and_send(ending jsonb, state jsonb, following jsonb, lease_ms bigint, message jsonb,
                                                         policy text, step_ms bigint, OUT settled bigint, OUT workflow_status text,
                                                         OUT refusals jsonb, OUT message_status text, OUT wake_ms bigint)
    LANGUAGE plpgsql AS $$
BEGIN
    SELECT a.settled, a.workflow_status, a.refusals INTO settled, workflow_status, refusals
      FROM orchestrator.advance(ending, state, following, lease_ms) a;
    -- Sent twice, it settles nothing, and finds the message that it had taken on.
    IF message IS NULL OR settled = 1 AND workflow_status <> 'completed'
       OR settled = 0 AND NOT EXISTS (SELECT FROM orchestrator.messages m WHERE m.id = message ->> 'id') THEN
        RETURN;
    END IF;
    SELECT s.message_status, s.wake_ms INTO message_status, wake_ms FROM orchestrator.send_text(message, policy, step_ms) s;
END $$;

-- As V7 has it; where that is its end, with its result. message: what it is sent as, NULL: nothing.
DROP FUNCTION orchestrator.take_up(text, integer, jsonb, jsonb, bigint);
CREATE FUNCTION orchestrator.take_up(of_workflow text, of_fence integer, state jsonb, following jsonb, lease_ms bigint,
                                     message jsonb DEFAULT NULL, policy text DEFAULT NULL, step_ms bigint DEFAULT NULL,
                                     OUT held boolean, OUT refusals jsonb, OUT message_status text, OUT wake_ms bigint)
    LANGUAGE plpgsql AS $$
DECLARE
    n orchestrator.workflows := jsonb_populate_record(NULL::orchestrator.workflows, state);
    first text := following -> 0 ->> 'id';
    ended boolean := n.status NOT IN ('running', 'queued');
BEGIN
    LOCK TABLE orchestrator.budgets IN ROW SHARE MODE;
    refusals := '{}';
    IF EXISTS (SELECT FROM orchestrator.attempts a WHERE a.id = first) THEN
        held := EXISTS (SELECT FROM orchestrator.workflows w WHERE w.id = of_workflow AND w.fence = of_fence AND w.status = 'running');
        SELECT coalesce(jsonb_object_agg(r.attempt_id, r.refusal), '{}') INTO refusals
          FROM orchestrator.reservations r JOIN jsonb_array_elements(following) f ON f ->> 'id' = r.attempt_id
         WHERE r.refusal IS NOT NULL;
        RETURN;
    END IF;
    UPDATE orchestrator.workflows w
       SET status = n.status, current_provider = n.current_provider, provider_states = n.provider_states,
           fallback_history = n.fallback_history, decisions = n.decisions, result = n.result, error = n.error,
           checkpoint = CASE WHEN ended AND n.status <> 'manual_review' THEN '{}' ELSE coalesce(n.checkpoint, w.checkpoint) END,
           claims = CASE n.status WHEN 'queued' THEN 0 ELSE w.claims END,
           completed_at = CASE WHEN ended AND n.status <> 'manual_review' THEN now() END,
           due_at = CASE WHEN n.status = 'queued' THEN now() + (state ->> 'due_in_ms')::bigint * interval '1 millisecond'
                         WHEN n.status = 'running' THEN now() + lease_ms * interval '1 millisecond' END
     WHERE w.id = of_workflow AND w.fence = of_fence AND (w.status = 'running' OR following = '[]' AND w.status = n.status);
    held := FOUND;
    IF NOT held THEN RETURN; END IF;
    refusals := orchestrator.book('{}', following, lease_ms, true);
    IF message IS NOT NULL THEN
        SELECT s.message_status, s.wake_ms INTO message_status, wake_ms FROM orchestrator.send_text(message, policy, step_ms) s;
    END IF;
END $$;
