-- The five products with the highest revenue of each day: (day, product code, pounds).
select batch_date::varchar, stock_code, revenue::double
from daily_sales
where batch_date between $first::date and $last::date
qualify row_number() over (partition by batch_date order by revenue desc, stock_code) <= 5
order by batch_date, revenue desc, stock_code
