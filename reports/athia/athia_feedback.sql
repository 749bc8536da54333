SELECT
    payment_attempt_id, prediction_id, run_id, policy, world, luck, TRUE AS is_simulated, warm_up,
    simulated_payment_id, order_id, payment_id, attempt_number AS payment_attempt_sequence_order,
    processor AS payment_attempt_processor_name,
    TIMEZONE('UTC', answered_at) AS answered_at, latency_ms, outcome,
    outcome = 'approved' AS payment_attempt_approved_indicator,
    decline_code AS payment_attempt_error_code, UPPER(decline_kind) AS payment_attempt_hard_soft_type,
    is_last AS payment_last_attempt_indicator, payment_approved, network_rule, network_fee_usd,
    NULL AS processor_fee_usd
FROM attempt
ORDER BY attempt.answered_at, payment_id, attempt_number
