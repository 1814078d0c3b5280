// SPDX-License-Identifier: Apache-2.0
#include "store/watch.hpp"

namespace posthouse::store {

void listen_done(pg::Connection& connection) {
  auto const channel = connection.query("select " + connection.quoted_schema() + ".done_channel()").text(0, 0);
  connection.script("listen " + connection.quote_identifier(channel));
}

bool notify_done_self(pg::Connection& connection) {
  return connection
             .query("select pg_notify(" + connection.quoted_schema() +
                    ".done_channel(), 'here') where pg_notification_queue_usage() <= 0.25")
             .rows() > 0;
}

void watch_jobs(pg::Connection& connection, std::span<std::int64_t const> ids) {
  connection.query("select " + connection.quoted_schema() + ".watch_jobs($1)", pg::Params().int8_array(ids));
}

void unwatch_jobs(pg::Connection& connection, std::span<std::int64_t const> ids) {
  connection.query("select " + connection.quoted_schema() + ".unwatch_jobs($1)", pg::Params().int8_array(ids));
}

}  // namespace posthouse::store
