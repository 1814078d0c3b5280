// SPDX-License-Identifier: Apache-2.0
// The producer: enqueue jobs, look them up, cancel and retry them.
//
// Thread safety: a Client may be used from any number of threads; it opens connections as needed, up to pool_size.
// After fork() a Client of the parent throws in the child.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <posthouse/error.hpp>
#include <posthouse/options.hpp>
#include <posthouse/payload.hpp>
#include <posthouse/pool.hpp>
#include <posthouse/transaction.hpp>

namespace posthouse {

/// A kind's name and its payload's type, declared once so that producer and worker cannot drift apart.
template <class T>
struct Kind {
  using payload_type = T;
  std::string_view name;
};

/// What a call of enqueue is about to do, for ClientOptions::around.
struct Enqueueing {
  std::string_view kind{};  ///< of the first job
  std::size_t jobs = 1;
};

struct ClientOptions {
  std::string database_url{};  ///< shorthand for database.database_url; wins when not empty
  DatabaseOptions database{};
  /// Connections shared with the application and other clients, and where the database is: no URL beside it, and
  /// pool_size and pool_timeout are those of the pool. Never closed by the client. Empty: a pool of its own.
  std::shared_ptr<Pool> pool{};
  int pool_size = 5;                              ///< connections kept, 1 to 1,000
  std::chrono::milliseconds pool_timeout{30000};  ///< wait for a free connection, then Timeout
  std::size_t max_payload_bytes = 1024 * 1024;    ///< 1 byte to 64 MiB; larger is InvalidArgument. Above 1 MiB
                                                  ///< meta.max_payload_bytes has to be raised as well
  /// true: when the reply to an enqueue is lost, the client finds out what became of it and sends it again if it must,
  /// so that there is one job. Costs a row for each single job (a token); many at once cost a round trip.
  bool safe_resend = false;
  /// 100 ms to 10 min; then the enqueue is reported as in doubt. Also how long an enqueue with a token waits, in steps of
  /// posthouse.lock_timeout (5 s), for an open transaction that has the token, before it fails with SQLSTATE 55P03.
  std::chrono::milliseconds resend_timeout{10000};
  /// Called around every enqueue, on the caller's thread, once its arguments were checked: must call `next` exactly once.
  /// When it throws before that, nothing is enqueued.
  std::function<void(Enqueueing const&, std::function<void()> const& next)> around{};
};

/// One job of a mixed batch.
struct Request {
  std::string kind{};
  Payload payload{};
  EnqueueOptions options{};
};

enum class EnqueueStatus {
  created,    ///< the job is new; or the token had made it before: the same again
  duplicate,  ///< nothing was enqueued: `id` holds the dedupe_key
  mismatch,  ///< nothing was enqueued: the token has made `id`, which differs in kind, queue, priority, payload, headers
             ///< or dedupe_key
  replaced,    ///< `id` holds the dedupe_key, had not started, and has this payload now (OnDuplicate::replace)
  rescheduled  ///< `id` holds the dedupe_key, had not started, and runs at this time now (OnDuplicate::reschedule)
};
struct EnqueueOutcome {
  std::int64_t id = 0;
  EnqueueStatus status = EnqueueStatus::created;
};

/// A job as the view `jobs` shows it.
struct JobInfo {
  std::int64_t id = 0;
  std::string kind{};
  std::string queue{};
  int priority = 0;
  std::string state{};  ///< scheduled, blocked, available, running, retryable, succeeded, failed, cancelled, expired
  int attempt = 0;      ///< attempts made so far, the running one included
  int max_attempts = 0;
  std::string enqueued_at{};  ///< RFC 3339, UTC
  std::optional<std::string> run_at{};
  std::optional<std::string> started_at{};
  std::optional<std::string> finished_at{};
  std::optional<std::int64_t> worker{};
  Payload payload{};
  std::string headers = "{}";  ///< JSON object
  std::optional<std::string> key{};
  std::optional<std::string> dedupe_key{};
  std::optional<std::string> expires_at{};
  std::optional<std::string> last_error{};
  std::vector<std::int64_t> depends_on{};  ///< all that it was to wait for, ended or not
  std::vector<std::int64_t> waits_for{};   ///< of a blocked job: those that have not ended
};

/// How a job has ended; or, when the time to wait for it was over first, how it stands.
struct JobOutcome {
  std::int64_t id = 0;
  std::string state{};  ///< as JobInfo::state; not_found: no such job, or it has ended and is not kept any more
  Payload result{};     ///< what the handler returned; null: nothing, or it is not kept any more
  std::optional<std::string> result_problem{};  ///< why the result is missing or not whole
  std::optional<std::string> error{};           ///< message of the last failed attempt, or the reason of the end
  std::optional<double> progress{};             ///< of a running job that has reported any: 0 to 1
  std::string progress_text{};

  [[nodiscard]] bool succeeded() const { return state == "succeeded"; }
  /// False: it may still run.
  [[nodiscard]] bool ended() const {
    return succeeded() || state == "failed" || state == "cancelled" || state == "expired" || state == "not_found";
  }
};

struct AttemptError {
  int attempt = 0;
  std::string type{};
  std::string message{};
  std::string stack{};
  std::string at{};
  std::optional<std::int64_t> worker{};
};

/// What became of a cancel.
enum class CancelOutcome {
  cancelled,  ///< it will not run, or not again
  requested,  ///< it runs: its handler is asked to stop; it ends as cancelled unless it succeeds first
  finished,   ///< it had ended before
  not_found
};

class Client {
 public:
  /// Opens no connection yet. Throws InvalidArgument when an option is out of range.
  explicit Client(ClientOptions options);
  ~Client();
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;

  // -- one job, in a transaction of its own ---------------------------------------------------------------------
  /// Throws InvalidArgument (nothing sent), SchemaMissing, Unavailable (in_doubt says whether it may have happened; with
  /// a token or safe_resend only after resend_timeout).
  EnqueueOutcome enqueue(std::string_view kind, Payload const& payload = {}, EnqueueOptions const& options = {});

  template <class T>
  EnqueueOutcome enqueue(Kind<T> kind, std::type_identity_t<T> const& value, EnqueueOptions const& options = {}) {
    return enqueue(kind.name, codec<T>::encode(value), options);
  }

  // -- one job, in the caller's transaction ---------------------------------------------------------------------
  EnqueueOutcome enqueue(Transaction const& transaction, std::string_view kind, Payload const& payload = {},
                         EnqueueOptions const& options = {});

  template <class T>
  EnqueueOutcome enqueue(Transaction const& transaction, Kind<T> kind, std::type_identity_t<T> const& value,
                         EnqueueOptions const& options = {}) {
    return enqueue(transaction, kind.name, codec<T>::encode(value), options);
  }

  // -- many -----------------------------------------------------------------------------------------------------
  /// All or none, ids in order. Up to 5,000 in one round trip through the function; more of one (kind, queue,
  /// priority) without delay by COPY; in a transaction of the caller's in further round trips instead. A bad element throws InvalidArgument naming its index; nothing is enqueued. Of
  /// several with one dedupe_key the first wins.
  std::vector<EnqueueOutcome> enqueue_many(std::span<Request const> requests);
  std::vector<EnqueueOutcome> enqueue_many(Transaction const& transaction, std::span<Request const> requests);
  /// dedupe_key and token are refused here: each names one job, so they go into Requests.
  std::vector<std::int64_t> enqueue_many(std::string_view kind, std::span<Payload const> payloads,
                                         EnqueueOptions const& options = {});

  template <class T>
  std::vector<std::int64_t> enqueue_many(Kind<T> kind, std::span<T const> values, EnqueueOptions const& options = {}) {
    std::vector<Payload> payloads;
    payloads.reserve(values.size());
    for (auto const& value : values) payloads.push_back(codec<T>::encode(value));
    return enqueue_many(kind.name, std::span<Payload const>(payloads), options);
  }

  // -- look-up and control --------------------------------------------------------------------------------------
  [[nodiscard]] std::optional<JobInfo> find(std::int64_t id);
  [[nodiscard]] std::vector<AttemptError> errors(std::int64_t id);
  /// Blocks until the job has ended, attempts that are retried included, at most for `timeout` (0: looks once; longer
  /// than 10 years: 10 years). Looks after 5 ms, then less and less often, down to once a second, and holds no connection
  /// of the pool between two looks. For a job that takes longer than about 100 ms it listens as well, on one connection for
  /// all waits of this client, and is woken at the end; not behind a transaction pooler without session_database_url. A
  /// job enqueued in a transaction that is still open is not_found.
  JobOutcome wait(std::int64_t id, std::chrono::milliseconds timeout);
  /// The same for up to 100,000 jobs, in order; returns when all have ended or the time is over. An id may be repeated.
  std::vector<JobOutcome> wait_many(std::span<std::int64_t const> ids, std::chrono::milliseconds timeout);
  /// Jobs that have not started, or wait for their next attempt, are cancelled at once; the handler of a running one is
  /// asked to stop. A cancel is final: the job is not tried again.
  CancelOutcome cancel(std::int64_t id);
  /// Makes a failed, cancelled, expired, scheduled, blocked or retryable job available now. False: no such job in such a state.
  bool retry(std::int64_t id);
  /// Nothing more is claimed from a paused queue, or of a paused kind in any queue; jobs that workers hold run to their
  /// end. Effective at the next claim of each worker. The database role needs the right to call these functions.
  void pause_queue(std::string_view queue);
  void resume_queue(std::string_view queue);
  void pause_kind(std::string_view kind);
  void resume_kind(std::string_view kind);
  /// Of jobs of this kind that were enqueued with this key (EnqueueOptions::key). After resume_key the first of those
  /// that wait becomes available within a second.
  void pause_key(std::string_view kind, std::string_view key);
  void resume_key(std::string_view kind, std::string_view key);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace posthouse
