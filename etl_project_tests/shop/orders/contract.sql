-- What a row is, and the one place that says it. Tables are created from here when they do not exist yet, and are never
-- dropped: constraints, indexes and comments added to them later live on.

CREATE TABLE orders (
    batch_date  DATE           NOT NULL,
    invoice_no  VARCHAR        NOT NULL,
    line_no     INTEGER        NOT NULL,
    stock_code  VARCHAR        NOT NULL,
    description VARCHAR,
    quantity    INTEGER        NOT NULL,
    invoiced_at TIMESTAMPTZ    NOT NULL,
    unit_price  DECIMAL(12, 3) NOT NULL,
    customer_id BIGINT,
    country     VARCHAR        NOT NULL,
    PRIMARY KEY (batch_date, invoice_no, line_no)
);
CREATE INDEX orders_by_customer ON orders (customer_id);
COMMENT ON TABLE orders IS 'Order lines as the shop sent them. Returns are lines with a negative quantity.';
COMMENT ON COLUMN orders.batch_date IS 'UTC batch date: the date in the name of the file';
COMMENT ON COLUMN orders.invoice_no IS 'Invoice number; returns start with C';
COMMENT ON COLUMN orders.line_no IS 'Line of the invoice, counted from 1 over the files of the day in name order';
COMMENT ON COLUMN orders.stock_code IS 'Product code';
COMMENT ON COLUMN orders.description IS 'Product name, where the shop gave one';
COMMENT ON COLUMN orders.quantity IS 'Units; negative for a return';
COMMENT ON COLUMN orders.invoiced_at IS 'Instant of the invoice';
COMMENT ON COLUMN orders.unit_price IS 'Price of one unit in pounds sterling';
COMMENT ON COLUMN orders.customer_id IS 'Customer, where known';
COMMENT ON COLUMN orders.country IS 'Country of the customer';

CREATE TABLE daily_sales (
    batch_date DATE           NOT NULL,
    stock_code VARCHAR        NOT NULL,
    units      BIGINT         NOT NULL,
    revenue    DECIMAL(18, 3) NOT NULL,
    invoices   BIGINT         NOT NULL,
    PRIMARY KEY (batch_date, stock_code)
);
COMMENT ON TABLE daily_sales IS 'Units and revenue of every product and day, returns taken off.';
COMMENT ON COLUMN daily_sales.batch_date IS 'UTC batch date';
COMMENT ON COLUMN daily_sales.stock_code IS 'Product code';
COMMENT ON COLUMN daily_sales.units IS 'Units sold less units returned';
COMMENT ON COLUMN daily_sales.revenue IS 'Pounds sterling, returns taken off';
COMMENT ON COLUMN daily_sales.invoices IS 'Invoices on which the product stands';

CREATE TABLE daily_customers (
    batch_date  DATE           NOT NULL,
    customer_id BIGINT,
    invoices    BIGINT         NOT NULL,
    units       BIGINT         NOT NULL,
    revenue     DECIMAL(18, 3) NOT NULL,
    UNIQUE (batch_date, customer_id)
);
COMMENT ON TABLE daily_customers IS 'What every customer bought on a day; one row without a customer for all the unknown ones.';
COMMENT ON COLUMN daily_customers.batch_date IS 'UTC batch date';
COMMENT ON COLUMN daily_customers.customer_id IS 'Customer; empty for orders whose customer is not known';
COMMENT ON COLUMN daily_customers.invoices IS 'Invoices of the customer, returns included';
COMMENT ON COLUMN daily_customers.units IS 'Units bought less units returned';
COMMENT ON COLUMN daily_customers.revenue IS 'Pounds sterling, returns taken off';

CREATE TABLE daily_report (
    batch_date     DATE           NOT NULL PRIMARY KEY,
    revenue        DECIMAL(18, 3) NOT NULL,
    invoices       BIGINT         NOT NULL,
    customers      BIGINT         NOT NULL,
    returned_share DECIMAL(9, 6)  NOT NULL,
    top_product    VARCHAR
);
COMMENT ON TABLE daily_report IS 'The day in one row; zeros on a day when the shop was closed.';
COMMENT ON COLUMN daily_report.batch_date IS 'UTC batch date';
COMMENT ON COLUMN daily_report.revenue IS 'Pounds sterling, returns taken off';
COMMENT ON COLUMN daily_report.invoices IS 'Invoices, returns included';
COMMENT ON COLUMN daily_report.customers IS 'Known customers who bought or returned something';
COMMENT ON COLUMN daily_report.returned_share IS 'Value of the returns as a share of the value sold, 0 to 1 and above';
COMMENT ON COLUMN daily_report.top_product IS 'Product code with the highest revenue; the first in code order where several have it';
