-- What a payment is, and what is made of payments and orders together.

CREATE TABLE payments (
    batch_date      DATE           NOT NULL,
    payment_id      VARCHAR        NOT NULL,
    invoice_no      VARCHAR        NOT NULL,
    amount          DECIMAL(12, 2) NOT NULL,
    currency        VARCHAR        NOT NULL,
    paid_at         TIMESTAMPTZ    NOT NULL,
    method          VARCHAR        NOT NULL,
    kafka_topic     VARCHAR        NOT NULL,
    kafka_partition INTEGER        NOT NULL,
    kafka_offset    BIGINT         NOT NULL,
    kafka_timestamp TIMESTAMPTZ    NOT NULL,
    kafka_key       VARCHAR,
    kafka_headers   VARCHAR,
    PRIMARY KEY (batch_date, kafka_topic, kafka_partition, kafka_offset)
);
COMMENT ON TABLE payments IS 'Payments as they came from Kafka, each message once, however often it was landed.';
COMMENT ON COLUMN payments.batch_date IS 'UTC day of the timestamp of the message';
COMMENT ON COLUMN payments.payment_id IS 'Number that the payment service gave';
COMMENT ON COLUMN payments.invoice_no IS 'Invoice that was paid, as the payer wrote it; refunds name the invoice of the return';
COMMENT ON COLUMN payments.amount IS 'Amount in the currency beside it, in whole pence or cents; negative for a refund';
COMMENT ON COLUMN payments.currency IS 'ISO 4217 code, like GBP';
COMMENT ON COLUMN payments.paid_at IS 'Instant of the payment';
COMMENT ON COLUMN payments.method IS 'How it was paid: card, transfer or voucher';
COMMENT ON COLUMN payments.kafka_topic IS 'Topic of the message';
COMMENT ON COLUMN payments.kafka_partition IS 'Partition of the topic';
COMMENT ON COLUMN payments.kafka_offset IS 'Offset in the partition: with topic and partition, the name of the message';
COMMENT ON COLUMN payments.kafka_timestamp IS 'Timestamp of the message; its UTC day is the batch date';
COMMENT ON COLUMN payments.kafka_key IS 'Key of the message, as text';
COMMENT ON COLUMN payments.kafka_headers IS 'Headers of the message as a JSON array of [name, value]; empty where there are none';

CREATE TABLE invoice_payments (
    batch_date DATE           NOT NULL,
    invoice_no VARCHAR        NOT NULL,
    invoiced   DECIMAL(18, 3),
    paid       DECIMAL(18, 2),
    payments   BIGINT         NOT NULL,
    difference DECIMAL(18, 3) NOT NULL,
    state      VARCHAR        NOT NULL
        CHECK (state IN ('settled', 'no payment', 'no invoice', 'other amount', 'other currency')),
    PRIMARY KEY (batch_date, invoice_no)
);
COMMENT ON TABLE invoice_payments IS 'Every invoice of a day beside what was paid for it that day, and payments for which there is no invoice.';
COMMENT ON COLUMN invoice_payments.batch_date IS 'UTC batch date of both the orders and the payments';
COMMENT ON COLUMN invoice_payments.invoice_no IS 'Invoice number; returns start with C';
COMMENT ON COLUMN invoice_payments.invoiced IS 'Sum of the order lines in pounds; empty where there is no such invoice';
COMMENT ON COLUMN invoice_payments.paid IS 'Sum of the payments in pounds; empty where there is none';
COMMENT ON COLUMN invoice_payments.payments IS 'Number of payments, in any currency';
COMMENT ON COLUMN invoice_payments.difference IS 'Pounds paid less pounds invoiced, nothing counting as 0';
COMMENT ON COLUMN invoice_payments.state IS 'settled: right to the penny; else what is wrong: no payment, no invoice, other amount, other currency';

CREATE TABLE daily_reconciliation (
    batch_date               DATE           NOT NULL PRIMARY KEY,
    revenue                  DECIMAL(18, 3) NOT NULL,
    paid                     DECIMAL(18, 2) NOT NULL,
    difference               DECIMAL(18, 3) NOT NULL,
    invoices                 BIGINT         NOT NULL,
    payments                 BIGINT         NOT NULL,
    invoices_without_payment BIGINT         NOT NULL,
    payments_without_invoice BIGINT         NOT NULL,
    other_amounts            BIGINT         NOT NULL,
    other_currencies         BIGINT         NOT NULL
);
COMMENT ON TABLE daily_reconciliation IS 'Orders against payments, a day in one row; zeros on a day with neither. What does not match stands in invoice_payments.';
COMMENT ON COLUMN daily_reconciliation.batch_date IS 'UTC batch date of both the orders and the payments';
COMMENT ON COLUMN daily_reconciliation.revenue IS 'Pounds invoiced, returns taken off: that of the orders';
COMMENT ON COLUMN daily_reconciliation.paid IS 'Pounds paid, refunds taken off: that of the payments in GBP';
COMMENT ON COLUMN daily_reconciliation.difference IS 'paid less revenue, the rounding of invoices to whole pence included';
COMMENT ON COLUMN daily_reconciliation.invoices IS 'Invoices of the day, returns included';
COMMENT ON COLUMN daily_reconciliation.payments IS 'Payments of the day in any currency, refunds included';
COMMENT ON COLUMN daily_reconciliation.invoices_without_payment IS 'Invoices for which nothing was paid that day';
COMMENT ON COLUMN daily_reconciliation.payments_without_invoice IS 'Invoice numbers that were paid for, but that no order of the day has';
COMMENT ON COLUMN daily_reconciliation.other_amounts IS 'Invoices for which another amount was paid';
COMMENT ON COLUMN daily_reconciliation.other_currencies IS 'Invoices paid for in another currency only';
