// SPDX-License-Identifier: Apache-2.0
// Partitions whose time has passed, made without waiting for it.
//
// Thread safety: one thread at a time.
#pragma once

#include <string>
#include <vector>

#include "support/engine.hpp"

namespace posthouse::test {

class PartitionTest : public EngineTest {
 protected:
  std::vector<std::string> partitions() {
    return sql.column("select relname from partition where not detaching order by lower");
  }
  std::string oldest() { return partitions().at(0); }
  /// What was enqueued up to now is in a partition that ended this long ago, and a new one has taken its place. `name`:
  /// of the new one.
  void age(std::string const& interval, std::string const& name = "job_today") {
    auto const row =
        sql.rows("select relname, lower, upper from partition where upper > now() order by lower limit 1").at(0);
    auto const end = sql.one("select clock_timestamp() - $1::interval", interval);
    auto const from = *row[1] == "-infinity" ? std::string("minvalue") : "'" + *row[1] + "'";
    sql.exec("alter table job detach partition " + *row[0]);
    sql.exec("update " + *row[0] + " set queued_at = '" + end + "'::timestamptz - interval '1 second'");
    sql.exec("alter table job attach partition " + *row[0] + " for values from (" + from + ") to ('" + end + "')");
    sql.exec("create table " + name + " (like job including all); alter table job attach partition " + name +
             " for values from ('" + end + "') to ('" + *row[2] + "')");
  }
};

}  // namespace posthouse::test
