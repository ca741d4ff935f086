-- One row a day, zeros for a day without orders.
with days as (
    select unnest(generate_series($first::date, $last::date, interval 1 day))::date as batch_date
),
totals as (
    select batch_date,
           sum(quantity * unit_price) as revenue,
           count(distinct invoice_no) as invoices,
           count(distinct customer_id) as customers,
           -sum(quantity * unit_price) filter (quantity * unit_price < 0) as returned,
           sum(quantity * unit_price) filter (quantity * unit_price > 0) as sold
    from orders
    where batch_date between $first::date and $last::date
    group by batch_date
),
top as (
    select batch_date, arg_min(stock_code, (-revenue, stock_code)) as top_product
    from daily_sales
    where batch_date between $first::date and $last::date
    group by batch_date
)
select batch_date,
       coalesce(revenue, 0)::decimal(18, 3) as revenue,
       coalesce(invoices, 0) as invoices,
       coalesce(customers, 0) as customers,
       coalesce(round(returned::double / nullif(sold, 0)::double, 6), 0)::decimal(9, 6) as returned_share,
       top_product
from days
left join totals using (batch_date)
left join top using (batch_date)
order by batch_date
