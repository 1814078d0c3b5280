// SPDX-License-Identifier: Apache-2.0
#include "core/sqlstate.hpp"

#include <algorithm>
#include <array>

namespace posthouse::core {

namespace {

struct Row {
  std::string_view prefix;  ///< a whole SQLSTATE, or a class of two characters
  Action action;
};

/// Whole states before their classes.
constexpr std::array<Row, 25> table{{
    {"40001", Action::retry},                                        // serialization failure
    {"40P01", Action::retry},                                        // deadlock
    {"55P03", Action::retry},                                        // lock not available
    {"57014", Action::retry},                                        // a cancel that was meant for an earlier statement
    {"25P02", Action::retry},                                        // transaction already failed
    {"08", Action::reconnect},                                       // connection exceptions
    {"57P01", Action::reconnect},                                    // administrator
    {"57P02", Action::reconnect},                                    // crash of another backend
    {"57P03", Action::reconnect},                                    // starting up or shutting down
    {"57P05", Action::reconnect},                                    // idle_session_timeout
    {"25P03", Action::reconnect},                                    // idle_in_transaction_session_timeout
    {"26000", Action::reconnect},                                    // prepared statement is gone
    {"42P05", Action::reconnect},                                    // prepared statement is already there
    {"25006", Action::wrong_server}, {"53300", Action::overloaded},  // too many connections
    {"53200", Action::overloaded},                                   // out of memory
    {"53400", Action::overloaded},                                   // a configured limit
    {"53100", Action::storage},                                      // disk full
    {"58030", Action::storage},                                      // I/O error
    {"54000", Action::storage},                                      // NOTIFY queue full
    {"XX001", Action::corruption},                                   // data
    {"XX002", Action::corruption},                                   // index
    {"22", Action::caller},                                          // data exceptions
    {"23", Action::caller},                                          // constraints; see also Pump::trouble
    {"42", Action::caller},                                          // syntax, names, rights
}};

}  // namespace

Action classify(std::string_view sqlstate, bool connection_bad, std::string_view message) noexcept {
  // PgBouncer closes the connection with it, but reconnecting at once would add to the load that it complains about.
  if (sqlstate == "08P01" && message.find("query_wait_timeout") != std::string_view::npos) return Action::overloaded;
  if (connection_bad) return Action::reconnect;
  auto const* row =
      std::find_if(table.begin(), table.end(), [&](Row const& r) { return sqlstate.starts_with(r.prefix); });
  return row == table.end() ? Action::other : row->action;
}

bool outcome_unknown(std::string_view sqlstate) noexcept { return sqlstate == "08007" || sqlstate == "40003"; }

std::string_view to_string(Action action) noexcept {
  switch (action) {
    case Action::retry:
      return "retry";
    case Action::reconnect:
      return "reconnect";
    case Action::wrong_server:
      return "wrong server";
    case Action::overloaded:
      return "overloaded";
    case Action::storage:
      return "storage";
    case Action::caller:
      return "caller";
    case Action::corruption:
      return "corruption";
    case Action::other:
      return "other";
  }
  return "other";
}

}  // namespace posthouse::core
