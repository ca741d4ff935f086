-- One row a day, zeros for a day without orders and payments.
select batch_date,
       coalesce(sum(invoiced), 0)::decimal(18, 3) as revenue,
       coalesce(sum(paid), 0)::decimal(18, 2) as paid,
       coalesce(sum(difference), 0)::decimal(18, 3) as difference,
       count(invoiced) as invoices,
       coalesce(sum(payments), 0)::bigint as payments,
       count(*) filter (state = 'no payment') as invoices_without_payment,
       count(*) filter (state = 'no invoice') as payments_without_invoice,
       count(*) filter (state = 'other amount') as other_amounts,
       count(*) filter (state = 'other currency') as other_currencies
from days
left join invoice_payments using (batch_date)
group by batch_date
