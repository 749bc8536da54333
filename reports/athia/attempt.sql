-- The attempts of one replication of one policy, with their ids and what stands before and after each.
CREATE OR REPLACE TEMP TABLE attempt AS
WITH beside AS (
    SELECT
        a.*,
        p.run_id, p.policy, p.world, p.luck, p.warm_up, p.order_id, p.simulated_payment_id, p.session_id, p.arrived_at,
        LAG(a.processor) OVER one AS previous_processor,
        LAG(a.outcome) OVER one AS previous_outcome,
        LAG(a.decline_code) OVER one AS previous_code,
        LAG(a.answered_at) OVER one AS previous_answered_at,
        LEAD(a.attempt_number) OVER one IS NULL AS is_last,
        BOOL_OR(a.outcome = 'approved') OVER (PARTITION BY a.payment_id) AS payment_approved
    FROM attempts AS a
    JOIN payment AS p USING (payment_id)
    WINDOW one AS (PARTITION BY a.payment_id ORDER BY a.attempt_number)
)
SELECT
    beside.*,
    'sim_' || LEFT(SHA256(CONCAT_WS(CHR(31), 'prediction', run_id, policy, world, luck, payment_id, attempt_number)), 28)
        AS prediction_id,
    'sim_' || LEFT(SHA256(CONCAT_WS(CHR(31), 'attempt', run_id, policy, world, luck, payment_id, attempt_number)), 28)
        AS payment_attempt_id,
    -- The same rule as the wait of the run's summary: what comes behind a deliberate delay nobody sits through.
    SUM((EPOCH_US(sent_at) - EPOCH_US(COALESCE(previous_answered_at, arrived_at))
            >= (SELECT deliberate_delay_us FROM part))::INT)
        OVER (PARTITION BY payment_id ORDER BY attempt_number) = 0 AS sat_through
FROM beside
