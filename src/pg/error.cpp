// SPDX-License-Identifier: Apache-2.0
// From an error of the server or of libpq to a typed exception.
#include "pg/error.hpp"

#include <libpq-fe.h>

#include <posthouse/error.hpp>

#include "core/sqlstate.hpp"

namespace posthouse::pg {
namespace {

std::string field(pg_result const* result, int code) {
  char const* text = PQresultErrorField(result, code);
  return text == nullptr ? std::string() : std::string(text);
}

bool starts_with(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

/// The server names a missing object by its bare or its quoted schema, depending on where it noticed.
bool concerns(std::string_view message, std::string_view schema) {
  if (schema.empty()) return false;
  std::string const bare = std::string(schema) + ".";
  std::string const quoted = "\"" + std::string(schema) + "\"";
  return message.find(bare) != std::string_view::npos || message.find(quoted) != std::string_view::npos;
}

}  // namespace

ServerMessage message_of(pg_result const* result) {
  ServerMessage message;
  message.sqlstate = field(result, PG_DIAG_SQLSTATE);
  message.text = field(result, PG_DIAG_MESSAGE_PRIMARY);
  if (message.text.empty()) {
    message.text = PQresultErrorMessage(result);
    while (!message.text.empty() && message.text.back() == '\n') message.text.pop_back();
  }
  message.detail = field(result, PG_DIAG_MESSAGE_DETAIL);
  std::string const hint = field(result, PG_DIAG_MESSAGE_HINT);
  if (!hint.empty()) {
    if (!message.detail.empty()) message.detail += ' ';
    message.detail += hint;
  }
  std::string position = field(result, PG_DIAG_INTERNAL_POSITION);
  if (position.empty()) position = field(result, PG_DIAG_STATEMENT_POSITION);
  if (!position.empty()) message.context = "at character " + position;
  std::string const context = field(result, PG_DIAG_CONTEXT);
  if (!context.empty()) message.context += (message.context.empty() ? "" : "\n") + context;
  return message;
}

void throw_error(ServerMessage message, bool connection_bad, bool in_doubt, std::string_view schema) {
  std::string const& state = message.sqlstate;
  Error::Details details{.sqlstate = state, .in_doubt = false, .hint = message.detail};
  if (connection_bad) {
    details.in_doubt = in_doubt;
    throw Unavailable("connection to the database lost: " + message.text, std::move(details));
  }
  details.in_doubt = core::outcome_unknown(state);
  if (state == "57014") throw Timeout(message.text, std::move(details));
  // Our functions refuse what exceeds a limit of ours with the state that the server uses for its own.
  if (state == "54000" && starts_with(message.text, "posthouse:")) {
    throw InvalidArgument(message.text, std::move(details));
  }
  // Prepared statements that are gone concern one statement only; Connection::prepared mends that.
  bool const prepared = state == "26000" || state == "42P05";
  if (prepared && details.hint.empty()) {
    details.hint = "is there a pooler in transaction mode in between? then set pgbouncer_transaction_mode";
  }
  switch (prepared ? core::Action::other : core::classify(state, false, message.text)) {
    case core::Action::reconnect:
    case core::Action::wrong_server:
      throw Unavailable(message.text, std::move(details));
    case core::Action::overloaded:
      if (state != "53200" && state != "53400") throw Unavailable(message.text, std::move(details));
      throw StorageFull(message.text, std::move(details));
    case core::Action::storage:
      throw StorageFull(message.text, std::move(details));
    default:
      break;
  }
  if (starts_with(state, "22") || starts_with(state, "23")) {
    throw InvalidArgument(message.text, std::move(details));
  }
  if ((state == "3F000" || state == "42P01" || state == "42883") && concerns(message.text, schema)) {
    details.hint = "run `posthouse install` (or `posthouse upgrade`) for this database and schema";
    throw SchemaMissing("schema \"" + std::string(schema) + "\" is not installed or not of this version (" +
                            message.text + "): run `posthouse install`",
                        std::move(details));
  }
  throw ServerError(message.text, std::move(details));
}

}  // namespace posthouse::pg
