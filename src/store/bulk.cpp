// SPDX-License-Identifier: Apache-2.0
#include "store/bulk.hpp"

namespace posthouse::store {

Bulk::Bulk(pg::Connection& connection) : connection_(connection), block_(connection) {
  // Whoever writes the input may pause for longer than the session's limit for idle transactions.
  connection_.script("set local idle_in_transaction_session_timeout = 0");
}

}  // namespace posthouse::store
