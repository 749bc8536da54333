SELECT
    predictions.*,
    feedback.* EXCLUDE (prediction_id, run_id, policy, world, luck, is_simulated, warm_up, simulated_payment_id, order_id,
        payment_id, payment_attempt_sequence_order, payment_attempt_processor_name)
FROM athia_predictions AS predictions
JOIN athia_feedback AS feedback USING (prediction_id)
ORDER BY predictions.predicted_at, predictions.payment_id, predictions.payment_attempt_sequence_order
