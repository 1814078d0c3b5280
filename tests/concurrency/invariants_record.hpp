// SPDX-License-Identifier: Apache-2.0
// What the sessions of the invariants test saw themselves: their claims and how each ended, with times of the clients'
// clock. A hold is certain from the reply to its claim until the statement that ends it is sent.
//
// Thread safety: every function may be called from any thread; judge() when they have ended.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "support/engine.hpp"

namespace posthouse::test {

class Record {
 public:
  enum class End { open, succeeded, retried, put_back, lost };
  struct Hold {
    std::int64_t worker = 0, token = 0, lane = 0, id = 0;
    int attempt = 0;
    std::int64_t asked = 0, got = 0;  ///< microseconds: before the claim, and when its reply was there
    std::int64_t let_go = 0;          ///< before the statement that ended it
    End end = End::open;
  };
  struct Rules {
    std::map<std::int64_t, std::string> kinds{};  ///< of lanes
    int limit = 0;                                ///< of kind limited
    double rate = 0, burst = 0;                   ///< of each key of kind rated, a second
  };
  using Member = std::tuple<std::int64_t, std::int64_t, std::int64_t>;  ///< worker, token, job

  static std::int64_t now();

  /// A claim whose transaction has committed.
  void claimed(std::int64_t worker, std::int64_t asked, std::int64_t got, std::vector<Claimed> const& jobs);
  /// The statement that ends it was sent at `sent`, and committed.
  void ended(std::int64_t worker, std::int64_t token, std::int64_t id, End end, std::int64_t sent);
  /// From now on the worker is dead: what it has not ended is lost.
  void lost(std::int64_t worker, std::int64_t at);
  /// A committed job's key.
  void enqueued(std::int64_t id, std::string const& key);

  /// What contradicts I8 to I12, in words; empty: nothing.
  [[nodiscard]] std::vector<std::string> judge(Rules const& rules) const;
  /// Each claimed job, in the batches that the sessions were told of.
  [[nodiscard]] std::set<Member> members() const;
  /// The successful hold's attempt, counted from one, of each job that succeeded.
  [[nodiscard]] std::map<std::int64_t, int> succeeded() const;

 private:
  mutable std::mutex mutex_;
  std::vector<Hold> holds_;
  std::map<std::int64_t, std::string> keys_;
};

}  // namespace posthouse::test
