// SPDX-License-Identifier: Apache-2.0
// The schema of one run of the benchmark: made, locked as long as the run lives, removed.
//
// While it lives a session holds an advisory lock that is made from the schema's name. What carries such a name and is
// not locked was left by a process that is gone, on whatever host, and is removed by the next run.
// Thread safety: one thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <posthouse/options.hpp>

#include "pg/connection.hpp"

namespace posthouse::bench {

class Home {
 public:
  using Progress = std::function<void(std::string const&)>;

  /// Removes what others left, then installs. `database.schema` is ignored.
  Home(DatabaseOptions database, Progress const& progress);
  ~Home();
  Home(Home const&) = delete;
  Home& operator=(Home const&) = delete;

  /// With the schema: `posthouse_bench_PID_` and eight random digits. Databases of this run are called the same, with
  /// `_NUMBER` behind.
  [[nodiscard]] DatabaseOptions const& database() const noexcept { return database_; }
  /// Empties it by making it anew.
  void renew() const;

 private:
  void remove_left_behind(Progress const& progress);

  DatabaseOptions database_;
  std::unique_ptr<pg::Connection> guard_;
};

}  // namespace posthouse::bench
