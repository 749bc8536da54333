WITH steps AS (
    SELECT
        p.* EXCLUDE (installments), p.installments, NULL AS prediction_id, 'installment' AS stage, 1 AS stage_number,
        1 AS stage_step, p.arrived_at AS entered_at, p.arrived_at AS left_at, NULL AS decision, NULL AS processor,
        'passed' AS stage_outcome, NULL AS decline_code, NULL AS decline_kind, first.payment_id IS NULL AS is_last_step,
        COALESCE(first.payment_approved, FALSE) AS payment_approved
    FROM payment AS p
    LEFT JOIN attempt AS first ON first.payment_id = p.payment_id AND first.attempt_number = 1
    UNION ALL BY NAME
    SELECT
        p.*, a.prediction_id, IF(a.attempt_number = 1, 'processor', 'retry') AS stage,
        IF(a.attempt_number = 1, 2, 3) AS stage_number, GREATEST(a.attempt_number - 1, 1) AS stage_step,
        a.sent_at AS entered_at, a.answered_at AS left_at, a.decision, a.processor,
        a.outcome AS stage_outcome, a.decline_code, a.decline_kind, a.is_last AS is_last_step, a.payment_approved
    FROM attempt AS a
    JOIN payment AS p USING (payment_id)
)
SELECT
    'sim_' || LEFT(SHA256(CONCAT_WS(CHR(31), 'stage', simulated_payment_id, stage_number, stage_step)), 28)
        AS stage_outcome_id,
    prediction_id, session_id, simulated_payment_id, run_id, policy, world, luck, TRUE AS is_simulated, warm_up, order_id,
    payment_id, stage, stage_number, stage_step,
    TIMEZONE('UTC', steps.entered_at) AS entered_at, TIMEZONE('UTC', steps.left_at) AS left_at,
    installments, NULL AS installment_offered, decision, processor AS payment_attempt_processor_name, stage_outcome,
    decline_code AS payment_attempt_error_code, UPPER(decline_kind) AS payment_attempt_hard_soft_type,
    is_last_step, payment_approved
FROM steps
ORDER BY arrived_at, payment_id, stage_number, stage_step
