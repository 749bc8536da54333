SELECT
    a.prediction_id, a.run_id, a.policy, a.world, a.luck, TRUE AS is_simulated, a.warm_up, a.session_id,
    a.simulated_payment_id, a.order_id, a.payment_id,
    p.merchant_id AS commerce_id, p.customer_id,
    TIMEZONE('UTC', p.arrived_at) AS arrived_at,
    HOUR(p.arrived_local) AS local_hour, ISODOW(p.arrived_local) - 1 AS local_weekday, DAY(p.arrived_local) AS local_day,
    p.amount_usd AS payment_amount_usd, p.currency AS payment_currency, p.card_brand, LEFT(p.card_bin, 6) AS card_bin,
    p.bank, p.card_country, p.channel AS channel_name, p.device, p.initiator, p.stored_credential, p.installments,
    p.mcc, p.three_ds, p.previous_payment_id IS NOT NULL AS follows_failed_payment,
    a.attempt_number AS payment_attempt_sequence_order,
    a.previous_processor AS previous_processor_name, a.previous_outcome, a.previous_code AS previous_error_code,
    (EPOCH_US(a.sent_at) - EPOCH_US(a.previous_answered_at)) / 1e6 AS since_previous_answer_s,
    TIMEZONE('UTC', a.sent_at) AS predicted_at, a.decision, a.processor AS payment_attempt_processor_name,
    a.rank_position, a.propensity,
    ARRAY_TO_STRING([CONCAT_WS(': ', skip.processor, skip.reason) FOR skip IN a.skipped], '; ') AS passed_over,
    a.message_initiator, a.message_avs, a.message_mcc,
    NULL AS ranked_choices, NULL AS score, NULL AS decision_latency_ms
FROM attempt AS a
JOIN payment AS p USING (payment_id)
ORDER BY a.sent_at, a.payment_id, a.attempt_number
