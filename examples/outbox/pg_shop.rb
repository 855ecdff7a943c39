# Writes an order and its event to the outbox in one transaction, with Ruby's pg.
#
#     PGHOST=localhost PGUSER=shop PGDATABASE=shop ruby pg_shop.rb acme
#
# With Active Record, the same two rows go into one `transaction` block. For the table of `sendoff relay`, set
# OUTBOX=sendoff_outbox.

require "json"
require "pg"

application = ARGV.fetch(0)
outbox = ENV.fetch("OUTBOX", "sendoff.outbox")
database = PG.connect # reads PGHOST and the others
database.exec("CREATE TABLE IF NOT EXISTS shop_ruby_order (id BIGSERIAL PRIMARY KEY, total NUMERIC NOT NULL)")

database.transaction do # commits at the end, rolls back on an exception
  order = database.exec_params("INSERT INTO shop_ruby_order (total) VALUES ($1) RETURNING id", [48.5])[0]["id"].to_i
  database.exec_params(
    "INSERT INTO #{outbox} (application, event_type, payload, event_id) VALUES ($1, $2, $3, $4)",
    [application, "order.created", JSON.generate(orderId: order, total: 48.5), "ruby-order-#{order}-created"],
  )
end

puts "the order and its event are committed"
