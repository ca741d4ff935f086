-- Orders and payments of a day, joined by invoice. Payments are in whole pence, invoices may come to a fraction of one.
with invoices as (
    select batch_date, invoice_no, sum(quantity * unit_price)::decimal(18, 3) as invoiced
    from orders
    group by all
),
received as (
    select batch_date, invoice_no, count(*) as payments,
           sum(amount) filter (currency = 'GBP')::decimal(18, 2) as paid
    from payments
    group by all
),
beside as (
    select batch_date, invoice_no, invoiced, paid,
           coalesce(payments, 0) as payments,
           coalesce(paid, 0) - coalesce(invoiced, 0) as difference
    from invoices
    full join received using (batch_date, invoice_no)
)
select *,
       case
           when invoiced is null then 'no invoice'
           when abs(difference) <= 0.005 then 'settled'
           when payments = 0 then 'no payment'
           when paid is null then 'other currency'
           else 'other amount'
       end as state
from beside
