-- The payments of one replication of one policy, with their ids and the local time of their arrival.
CREATE OR REPLACE TEMP TABLE payment AS
SELECT
    p.*,
    part.* EXCLUDE (timezone, deliberate_delay_us),
    TIMEZONE(part.timezone, p.arrived_at) AS arrived_local,
    'sim_' || LEFT(SHA256(CONCAT_WS(CHR(31), 'payment', run_id, policy, world, luck, payment_id)), 28)
        AS simulated_payment_id,
    'sim_' || LEFT(SHA256(CONCAT_WS(CHR(31), 'session', run_id, policy, world, luck, order_id)), 28) AS session_id
FROM payments AS p, part
