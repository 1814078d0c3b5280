// SPDX-License-Identifier: Apache-2.0
// For the tests of programs that use posthouse: jobs without a server, handlers run by hand, what a transaction has
// enqueued, due jobs run inside it, and a private PostgreSQL with the schema. Link posthouse::testing.
//
//   auto outcome = testing::run(handler, testing::job({.payload = json{R"({"user_id": 42})"}, .attempt = 3}));
//   EXPECT_TRUE(std::holds_alternative<Success>(outcome));
//
//   testing::Database database;                          // a database of its own, gone with the object
//   …begin; code under test enqueues in `transaction`…
//   EXPECT_EQ(testing::enqueued(transaction, "send_welcome").size(), 1u);
//   testing::run_due(transaction, {{"send_welcome", handler}});   // …and roll back: nothing has happened
//
// Thread safety: free functions from any thread, each on its own transaction; a TestJob as a Job; a Database from any.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <posthouse/client.hpp>
#include <posthouse/job.hpp>
#include <posthouse/options.hpp>
#include <posthouse/outcome.hpp>
#include <posthouse/payload.hpp>
#include <posthouse/transaction.hpp>
#include <posthouse/worker.hpp>

namespace posthouse::testing {

// -- a job without a server -------------------------------------------------------------------------------------------

struct JobOptions {
  Payload payload{};
  std::int64_t attempt = 1;  ///< number of the attempt, from 1
  std::int64_t max_attempts = 25;
  std::int64_t id = 1;
  std::string kind = "test";
  std::string queue = "default";
  int priority = 0;
  std::map<std::string, std::string> headers{};
  std::vector<std::int64_t> depends_on{};
  std::optional<std::chrono::milliseconds> timeout{};  ///< sets deadline(); nobody asks to stop by itself
};

/// A Job that remembers what its handler asked of it. Copies share their memory.
class TestJob : public Job {
 public:
  struct Progress {
    double fraction = 0;
    std::string text{};
  };

  explicit TestJob(JobOptions options);

  /// Makes stop_token() ask, as a timeout or a stopping worker does.
  void request_stop() const;
  [[nodiscard]] std::vector<Progress> progress_calls() const;
  [[nodiscard]] int heartbeats() const;
  /// complete(transaction) was called. Nothing is written: the job is in no database.
  [[nodiscard]] bool completed() const;

 private:
  class Record;
  TestJob(JobOptions options, std::shared_ptr<Record> record);
  std::shared_ptr<Record> record_;
};

TestJob job(JobOptions options = {});

// -- running a handler ------------------------------------------------------------------------------------------------

/// Calls a handler as the worker does: whatever is thrown becomes an outcome. Discard, Snooze and RetryAfter are
/// themselves, any other exception is a Failure with the type's name and message. A DecodeError is a Discard with path
/// and problem, or a Failure with OnDecodeError::retry.
Outcome contain(Worker::Handler const& handler, Job const& job, OnDecodeError on_decode_error = OnDecodeError::fail);

/// What the worker makes of a handler's return value.
template <class Call>
Outcome outcome_of(Call call) {
  using Result = std::decay_t<decltype(call())>;
  if constexpr (std::is_void_v<Result>) {
    call();
    return Success{};
  } else if constexpr (std::is_constructible_v<Outcome, Result>) {
    return Outcome{call()};
  } else {
    return success_of(call());
  }
}

/// Runs an untyped handler, one that is called with (Job const&).
template <class F>
requires std::is_invocable_v<F&, Job const&> Outcome run(F handler, Job const& job,
                                                         OnDecodeError on_decode_error = OnDecodeError::fail) {
  auto const call = [&](Job const& j) { return outcome_of([&]() -> decltype(auto) { return handler(j); }); };
  return contain(call, job, on_decode_error);
}

/// Runs a typed handler, one that is called with (Job const&, T const&), on the decoded payload.
template <class T, class F>
requires std::is_invocable_v<F&, Job const&, T const&> Outcome
run(Kind<T> /*kind*/, F handler, Job const& job, OnDecodeError on_decode_error = OnDecodeError::fail) {
  auto const call = [&](Job const& j) {
    T const value = codec<T>::decode(j.payload());
    return outcome_of([&]() -> decltype(auto) { return handler(j, value); });
  };
  return contain(call, job, on_decode_error);
}

// -- what was enqueued ------------------------------------------------------------------------------------------------

struct EnqueuedJob {
  std::int64_t id = 0;
  std::string kind{};
  std::string queue{};
  int priority = 0;
  std::string state{};  ///< as in the view `jobs`: available, scheduled, …
  int max_attempts = 0;
  Payload payload{};
  std::map<std::string, std::string> headers{};
  std::optional<std::chrono::system_clock::time_point> run_at{};  ///< of a scheduled or retryable job
};

/// The unfinished jobs of that kind that the transaction sees, its own uncommitted ones included, in order of id.
std::vector<EnqueuedJob> enqueued(Transaction const& transaction, std::string_view kind,
                                  std::string_view schema = "posthouse");

// -- running due jobs inside the transaction --------------------------------------------------------------------------

/// An untyped handler under a kind's name, or a typed one under its Kind.
class InlineHandler {
 public:
  template <class F>
  requires std::is_invocable_v<F&, Job const&> InlineHandler(std::string_view kind, F handler)
      : kind_(kind),
        call_([handler = std::move(handler)](Job const& job) mutable { return testing::run(std::ref(handler), job); }) {
  }

  template <class T, class F>
  requires std::is_invocable_v<F&, Job const&, T const&> InlineHandler(Kind<T> kind, F handler)
      : kind_(kind.name), call_([kind, handler = std::move(handler)](Job const& job) mutable {
          return testing::run(kind, std::ref(handler), job);
        }) {}

  [[nodiscard]] std::string const& kind() const noexcept { return kind_; }
  Outcome operator()(Job const& job) const { return call_(job); }

 private:
  std::string kind_;
  std::function<Outcome(Job const&)> call_;
};

struct RunDueOptions {
  std::string schema = "posthouse";
  /// The clock is set this far ahead: jobs that are due by then run, and the delays of retries count from then.
  std::chrono::milliseconds ahead{0};
  int limit = 10'000;  ///< most runs in all; more throw, since handlers that enqueue their own kind never end
};

struct RunResult {
  std::int64_t id = 0;
  std::string kind{};
  std::int64_t attempt = 0;
  Outcome outcome{};
};

/// Runs, one after the other in this thread, higher priority first, the jobs of these kinds that the transaction has
/// enqueued, all deferred ones that are due, and what their handlers enqueue, each once; then returns what became of
/// each. A success deletes the job. Anything else moves it as a worker would (with the default back-off), so that
/// `enqueued` and the view `jobs` show it. Each handler runs in a savepoint, and a Failure undoes what the handler did
/// in the transaction. All of this is part of the transaction: rolled back, nothing has happened. Jobs that others have
/// enqueued and that are available are left to workers. As by the engine, a job past its expires_at ends as expired
/// instead, one whose queue, kind or key is paused or held is left where it is, and RetryAfter holds. Throws InvalidArgument outside of a transaction.
std::vector<RunResult> run_due(Transaction const& transaction, std::vector<InlineHandler> const& handlers,
                               RunDueOptions const& options = {});

// -- a database -------------------------------------------------------------------------------------------------------

/// A database of its own with the schema installed, dropped with the object. The first one of a process starts a
/// private PostgreSQL in a temporary folder (some 2 s; the others take 50 ms), which goes with the process, even when
/// it is killed; or uses the server that POSTHOUSE_TEST_SERVER_URL names, whose role must be allowed to create
/// databases.
class Database {
 public:
  /// Throws Unavailable, with the package to install, when this machine has no PostgreSQL.
  explicit Database(std::string schema = "posthouse");
  ~Database();
  Database(Database const&) = delete;
  Database& operator=(Database const&) = delete;

  [[nodiscard]] std::string const& url() const noexcept { return url_; }
  [[nodiscard]] std::string const& schema() const noexcept { return schema_; }
  [[nodiscard]] DatabaseOptions options() const;

 private:
  std::string schema_;
  std::string name_;
  std::string url_;
  std::int64_t owner_process_;
};

}  // namespace posthouse::testing
