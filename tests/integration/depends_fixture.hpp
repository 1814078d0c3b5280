// SPDX-License-Identifier: Apache-2.0
// What tests of dependencies share.
//
// Thread safety: as Sql, one thread at a time.
#pragma once

#include "support/engine.hpp"

namespace posthouse::test {

class EngineDepends : public EngineTest {
 protected:
  std::int64_t child(Ids const& parents, bool all_ok = true) { return child(sql, parents, all_ok); }
  static std::int64_t child(Sql& session, Ids const& parents, bool all_ok = true) {
    return session.number("select enqueue('k', depends_on => $1, depends_on_all_ok => $2)", array(parents), all_ok);
  }
  std::string waits_for(std::int64_t id) {
    return sql.one("select coalesce(waits_for::text, 'null') from jobs where id = $1", id);
  }
  std::string reason(std::int64_t id) { return sql.one("select last_error from jobs where id = $1", id); }
  std::int64_t tend(Sql& session) { return session.number("select tend_children()"); }
  std::int64_t edges() { return sql.number("select count(*) from dependency"); }
  std::int64_t notes() { return sql.number("select count(*) from dependency_check"); }
  /// An hour passes for what expires.
  void pass_time() {
    for (std::string const table : {"job", "deferred"}) {
      sql.exec("update " + table +
               " set options = options || jsonb_build_object('expires_at', utc_text((options ->> "
               "'expires_at')::timestamptz - interval '1 hour')) where options ? 'expires_at'");
    }
    sql.exec("update expiry set at = at - interval '1 hour'");
  }
  /// Rounds until the transactions of other tests are over that the leader waits for.
  void settle() {
    EXPECT_TRUE(eventually([&] {
      tend(sql);
      return notes() == 0;
    }));
  }
  static void fail(Hand& hand, Claimed const& job) { hand.finish(job.token, "1", 0, "[" + move_of(job, "fail") + "]"); }
};

}  // namespace posthouse::test
