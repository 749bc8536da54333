-- Sums of USD are taken in order, so that rounding gives the same bytes whatever the number of threads.
WITH tried AS (
    SELECT
        session_id, COUNT(*) AS attempts, COUNT(DISTINCT processor) AS processors_tried,
        COUNT(*) FILTER (outcome = 'timeout') AS timeouts,
        MAX(answered_at) AS last_answered_at,
        FIRST(processor ORDER BY sent_at, payment_id, attempt_number) AS first_processor_name,
        FIRST(outcome ORDER BY sent_at, payment_id, attempt_number) AS first_outcome,
        LAST(processor ORDER BY sent_at, payment_id, attempt_number) AS last_processor_name,
        LAST(outcome ORDER BY sent_at, payment_id, attempt_number) AS last_outcome,
        LAST(decline_code ORDER BY sent_at, payment_id, attempt_number) AS last_error_code,
        BOOL_OR(outcome = 'approved') AS approved,
        BOOL_OR(outcome = 'approved' AND attempt_number > 1) AS recovered,
        SUM(network_fee_usd ORDER BY sent_at, payment_id, attempt_number) AS network_fee_usd
    FROM attempt
    GROUP BY session_id
),
waits AS (
    SELECT session_id, SUM(wait_us) / 1e3 AS wait_ms
    FROM (
        SELECT session_id, EPOCH_US(MAX(answered_at)) - EPOCH_US(MIN(arrived_at)) AS wait_us
        FROM attempt WHERE sat_through GROUP BY session_id, payment_id)
    GROUP BY session_id
),
wished AS (
    SELECT
        p.session_id, COUNT(*) AS payments, MIN(p.arrived_at) AS started_at, MAX(p.arrived_at) AS last_arrived_at,
        FIRST(p.amount_usd ORDER BY p.arrived_at, p.payment_id) AS order_amount_usd,
        FIRST(p.warm_up ORDER BY p.arrived_at, p.payment_id) AS warm_up,
        FIRST(p.merchant_id ORDER BY p.arrived_at, p.payment_id) AS commerce_id,
        FIRST(p.customer_id ORDER BY p.arrived_at, p.payment_id) AS customer_id,
        SUM(p.amount_usd ORDER BY p.arrived_at, p.payment_id) FILTER (paid.payment_id IS NOT NULL) AS approved_usd,
        MIN(p.order_id) AS order_id, MIN(p.run_id) AS run_id, MIN(p.policy) AS policy, MIN(p.world) AS world,
        MIN(p.luck) AS luck
    FROM payment AS p
    LEFT JOIN (SELECT DISTINCT payment_id FROM attempt WHERE payment_approved) AS paid USING (payment_id)
    GROUP BY p.session_id
)
SELECT
    wished.session_id, run_id, policy, world, luck, TRUE AS is_simulated, warm_up, order_id, commerce_id, customer_id,
    TIMEZONE('UTC', wished.started_at) AS started_at,
    TIMEZONE('UTC', GREATEST(last_answered_at, last_arrived_at)) AS ended_at,
    payments, COALESCE(tried.attempts, 0) AS attempts, COALESCE(processors_tried, 0) AS processors_tried,
    COALESCE(timeouts, 0) AS timeouts, first_processor_name, last_processor_name, last_outcome, last_error_code,
    COALESCE(approved, FALSE) AS order_approved_indicator,
    COALESCE(first_outcome = 'approved', FALSE) AS first_attempt_approved,
    COALESCE(tried.recovered, FALSE) AS recovered,
    COALESCE(last_outcome IN ('timeout', 'unavailable'), FALSE) AS ended_dark,
    order_amount_usd, COALESCE(approved_usd, 0) AS approved_usd, wait_ms,
    COALESCE(network_fee_usd, 0) AS network_fee_usd, NULL AS browsing_events
FROM wished
LEFT JOIN tried USING (session_id)
LEFT JOIN waits USING (session_id)
ORDER BY wished.started_at, order_id
