-- Revenue by hour of the shop's own clock: (day, hour, pounds).
select batch_date::varchar,
       strftime(invoiced_at at time zone 'Europe/London', '%H:00'),
       sum(quantity * unit_price)::double
from orders
where batch_date between $first::date and $last::date
group by all
order by all
