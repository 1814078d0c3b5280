// SPDX-License-Identifier: Apache-2.0
// What broker_add_job was told of an SQL job, and whether it may run, asked on the daemon's own login.
//
// Thread safety: as the Connection behind it, one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "pg/connection.hpp"

namespace posthouse::store {

struct BrokerJob {
  std::string name{};
  std::string statement{};
  std::string run_as{};
  std::string user_login{};
  bool is_own_login = false;  ///< run_as is the role of this connection
  std::string problem{};      ///< why it must not run, a sentence; empty: it may
};

/// What an operator sees of a job that broker_add_job made.
struct BrokerJobInfo {
  std::string name{};
  std::string statement{};
  std::optional<std::string> run_as{};
  std::string made_by{};
  std::optional<std::string> user_login{};
  std::optional<std::int64_t> schedule{};
};
std::optional<BrokerJobInfo> broker_job(pg::Connection& connection, std::int64_t job);

BrokerJob broker_start(pg::Connection& connection, std::int64_t job);

/// The role that this session logged in as.
std::string session_user(pg::Connection& connection);

/// The id of the open transaction, when it has written anything; else empty.
std::string transaction_id(pg::Connection& connection);

}  // namespace posthouse::store
