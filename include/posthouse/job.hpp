// SPDX-License-Identifier: Apache-2.0
// What a handler gets.
//
// Thread safety: a Job belongs to its handler's thread and must not outlive the call, but for stop_token(),
// heartbeat() and progress(), which any thread may use while the handler runs.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include <posthouse/outcome.hpp>
#include <posthouse/payload.hpp>
#include <posthouse/transaction.hpp>

namespace posthouse {

class Job {
 public:
  /// Everything known of the job; the worker fills it, posthouse::testing::job builds one for tests.
  struct Facts {
    std::int64_t id = 0;
    std::string kind{};
    std::string queue = "default";
    int priority = 0;
    std::int64_t attempt = 1;
    std::int64_t max_attempts = 25;
    Payload payload{};
    std::map<std::string, std::string> headers{};
    std::vector<std::int64_t> depends_on{};
    std::int64_t worker = 0;  ///< incarnation of the worker
    std::int64_t token = 0;   ///< the claim's token within the incarnation
    int position = 0;         ///< place in the claim's batch
    std::optional<std::chrono::steady_clock::time_point> deadline{};
  };

  /// What a running job asks of its worker.
  class Link {
   public:
    virtual ~Link() = default;
    virtual void progress(double fraction, std::string_view text) = 0;
    virtual void heartbeat() = 0;
    virtual void complete(Job const& job, Transaction const& transaction, Payload const& result) = 0;
  };

  Job(Facts facts, std::stop_token stop, Link* link) : facts_(std::move(facts)), stop_(std::move(stop)), link_(link) {}

  [[nodiscard]] std::int64_t id() const noexcept { return facts_.id; }
  [[nodiscard]] std::string const& kind() const noexcept { return facts_.kind; }
  [[nodiscard]] std::string const& queue() const noexcept { return facts_.queue; }
  [[nodiscard]] int priority() const noexcept { return facts_.priority; }
  /// Number of this attempt, from 1.
  [[nodiscard]] std::int64_t attempt() const noexcept { return facts_.attempt; }
  [[nodiscard]] std::int64_t max_attempts() const noexcept { return facts_.max_attempts; }
  [[nodiscard]] Payload const& payload() const noexcept { return facts_.payload; }
  [[nodiscard]] std::map<std::string, std::string> const& headers() const noexcept { return facts_.headers; }
  /// The jobs for which this one was to wait, in the order of its enqueue; Client::wait_many has their results.
  [[nodiscard]] std::vector<std::int64_t> const& depends_on() const noexcept { return facts_.depends_on; }
  /// The moment at which the worker's stop_token asks this handler to end; nullopt: none.
  [[nodiscard]] std::optional<std::chrono::steady_clock::time_point> deadline() const noexcept {
    return facts_.deadline;
  }
  /// Asked to stop: timeout, cancel, lost lease, or a worker that stops now.
  [[nodiscard]] std::stop_token stop_token() const noexcept { return stop_; }
  /// "worker.token.position": unique for each time that this job was handed out; give it to systems that can refuse
  /// an older holder.
  [[nodiscard]] std::string fencing_token() const {
    return std::to_string(facts_.worker) + "." + std::to_string(facts_.token) + "." + std::to_string(facts_.position);
  }
  /// fraction 0 to 1, text at most 1,000 bytes. Costs well under a microsecond and never fails; the newest is stored
  /// about once a second while the job runs, for `posthouse jobs show`, Client::wait and outcome() in SQL. It goes with
  /// the attempt, and is lost when the database is out of reach at that moment.
  void progress(double fraction, std::string_view text = {}) const {
    if (link_ != nullptr) link_->progress(fraction, text);
  }
  /// A sign of life, for a kind with a retry_timer, as progress() is; noted in the worker's log at level debug. The lease
  /// is the worker's, which renews it whatever its handlers do.
  void heartbeat() const {
    if (link_ != nullptr) link_->heartbeat();
  }

  /// Finishes the job inside the caller's transaction: the handler's effects and the completion commit together, and
  /// a rollback leaves the job unfinished: throw then, since a normal return reports success. Throws LeaseLost when the
  /// job is no longer ours. From this call on, no retry_timer takes it from its handler. A `result` that is not null is stored in the same transaction, and what the handler returns
  /// afterwards is not; without one, a returned value is stored when the job's end is acknowledged.
  void complete(Transaction const& transaction, Payload const& result = {}) const {
    if (link_ != nullptr) link_->complete(*this, transaction, result);
  }

  [[nodiscard]] Facts const& facts() const noexcept { return facts_; }

 private:
  Facts facts_;
  std::stop_token stop_;
  Link* link_;
};

}  // namespace posthouse
