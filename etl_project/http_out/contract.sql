CREATE TABLE report_delivery (
    batch_date   DATE    NOT NULL PRIMARY KEY,
    delivery_key VARCHAR NOT NULL,
    content_hash VARCHAR NOT NULL,
    status       INTEGER NOT NULL
);
COMMENT ON TABLE report_delivery IS 'The report of each day as it was confirmed by its receiver.';
COMMENT ON COLUMN report_delivery.batch_date IS 'UTC batch date';
COMMENT ON COLUMN report_delivery.delivery_key IS 'Idempotency key under which it was posted; more in delivery.sqlite';
COMMENT ON COLUMN report_delivery.content_hash IS 'SHA-256 of the canonical JSON that was posted';
COMMENT ON COLUMN report_delivery.status IS 'HTTP status of the confirmation';
