// SPDX-License-Identifier: Apache-2.0
// The producer: checks, then one call into the store.
#include <posthouse/client.hpp>

#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include "base/random.hpp"
#include "core/names.hpp"
#include "core/payload_check.hpp"
#include "core/refuse.hpp"
#include "core/sqlstate.hpp"
#include "pg/error.hpp"
#include "pg/shared_pool.hpp"
#include "produce/check.hpp"
#include "produce/resend.hpp"
#include "produce/wait.hpp"
#include "produce/wait_room.hpp"
#include "store/admin.hpp"
#include "store/commit.hpp"
#include "store/keys.hpp"
#include "store/migrate.hpp"
#include "store/outcome.hpp"
#include "store/produce.hpp"

namespace posthouse {
namespace {

/// From here on COPY is faster than arrays, although it takes three round trips more.
constexpr std::size_t copy_from = 5001;

/// A job that has not ended when the pauses between two looks have become so long is worth a notification.
constexpr std::chrono::milliseconds watch_from{40};

std::vector<std::int64_t> ids_of(std::vector<EnqueueOutcome> const& outcomes) {
  std::vector<std::int64_t> list;
  list.reserve(outcomes.size());
  for (auto const& outcome : outcomes) list.push_back(outcome.id);
  return list;
}

/// A mixed batch, checked. Its jobs point into the requests.
struct Batch {
  Batch(std::span<Request const> requests, std::size_t max_payload_bytes) : headers(requests.size()) {
    jobs.reserve(requests.size());
    for (std::size_t i = 0; i < requests.size(); ++i) {
      produce::for_element(i, [&] {
        core::check_payload(requests[i].payload, max_payload_bytes);
        jobs.push_back(produce::checked(requests[i].kind, requests[i].options, headers[i]));
        jobs.back().payload = &requests[i].payload;
      });
    }
  }
  [[nodiscard]] store::JobList list() const {
    return {jobs.size(), [this](std::size_t i) { return jobs[i]; }};
  }

  std::vector<std::string> headers;
  std::vector<store::NewJob> jobs{};
};

}  // namespace

struct Client::Impl {
  explicit Impl(ClientOptions given) : options(std::move(given)), pool(PoolDoor::of(options, options.pool_size)) {
    options.database = PoolDoor::database(*pool);
  }

  produce::WaitRoom& wait_room() {
    std::call_once(room_made, [this] {
      bool const session = PoolDoor::has_session(*pool);
      if (!session && options.pool) {
        PoolDoor::log(*pool).warning(
            "waits for results poll: this pool has no connection for LISTEN; give PoolOptions a database.listen or a "
            "session_database_url",
            {{"pool", pool->options().name}});
      }
      room.emplace(options.database, session);
    });
    return *room;
  }

  [[nodiscard]] PoolDoor::Use connect() { return PoolDoor::use(*pool, "Client"); }

  /// One whole transaction on a connection of the pool; once more when the server asks for that.
  template <class Call>
  auto run(Call call) {
    constexpr int most = 5;
    for (int attempt = 1;; ++attempt) {
      try {
        return PoolDoor::run(*pool, "Client", [&](pg::Connection& connection) {
          check_schema(connection);
          return call(connection);
        });
      } catch (ServerError const& error) {
        bool const again = core::classify(error.sqlstate(), false) == core::Action::retry && !error.in_doubt();
        if (!again || attempt == most) throw;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(static_cast<int>(base::random_unit() * 10'000 * attempt)));
    }
  }

  /// Inside the user's hook, when there is one.
  template <class Call>
  auto around(std::string_view kind, std::size_t jobs, Call call) -> decltype(call()) {
    if (!options.around) return call();
    std::optional<decltype(call())> result;
    options.around({kind, jobs}, [&] {
      if (result) throw InvalidArgument("the hook around enqueue called next twice; the first call has enqueued");
      result.emplace(call());
    });
    if (!result) throw InvalidArgument("the hook around enqueue did not call next: nothing was enqueued");
    return std::move(*result);
  }

  /// One job with a token: when the reply is lost it is sent again, which the token makes safe.
  EnqueueOutcome run_with_token(store::NewJob const& job) {
    std::exception_ptr first;
    auto const until = std::chrono::steady_clock::now() + options.resend_timeout;
    while (!first) {
      try {
        return run([&](pg::Connection& connection) { return store::enqueue(connection, job); });
      } catch (Error const& error) {
        // Another sending of this token is in an open transaction: only when that has ended is it known who has it.
        if (error.sqlstate() == "55P03" && std::chrono::steady_clock::now() < until) continue;
        if (!error.in_doubt()) throw;
        first = std::current_exception();
      }
    }
    EnqueueOutcome outcome;
    bool const resolved = produce::until_resolved(options.resend_timeout, [&](std::chrono::milliseconds remaining) {
      auto connection = connect();
      connection->set_deadline(remaining);
      outcome = store::enqueue(*connection, job);
      return true;
    });
    if (!resolved) std::rethrow_exception(first);
    return outcome;
  }

  /// Many jobs. With safe_resend in a transaction whose id is known before its COMMIT, so that the server can be asked
  /// what became of it when the reply is lost.
  template <class Call>
  std::vector<EnqueueOutcome> run_many(Call call) {
    if (!options.safe_resend) return run(call);
    auto const until = std::chrono::steady_clock::now() + options.resend_timeout;
    for (;;) {
      std::string transaction;
      std::vector<EnqueueOutcome> outcomes;
      std::exception_ptr first;
      try {
        run([&](pg::Connection& connection) {
          store::in_known_transaction(connection, transaction, [&] { outcomes = call(connection); });
          return 0;
        });
        return outcomes;
      } catch (Error const& error) {
        if (!error.in_doubt() || transaction.empty()) throw;
        first = std::current_exception();
      }
      auto const left = std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
      auto fate = store::Fate::unknown;
      bool const resolved = produce::until_resolved(left, [&](std::chrono::milliseconds remaining) {
        auto connection = connect();
        connection->set_deadline(remaining);
        fate = store::fate_of(*connection, transaction);
        return fate != store::Fate::in_progress;
      });
      if (resolved && fate == store::Fate::committed) return outcomes;
      if (!resolved || fate != store::Fate::aborted) std::rethrow_exception(first);
    }
  }

  /// Once a client: a schema that this program does not understand must not get its jobs.
  void check_schema(pg::Connection& connection) {
    if (checked.load(std::memory_order_relaxed)) return;
    try {
      store::check_version(connection);
    } catch (ServerError const& error) {
      // A role that may only enqueue cannot read the version; the functions are all that it needs.
      if (error.sqlstate() != "42501") throw;
    }
    checked.store(true, std::memory_order_relaxed);
  }

  /// In the caller's transaction, where errors do not know our schema.
  template <class Call>
  auto run(Transaction const& transaction, Call call) {
    try {
      return call(transaction, options.database.schema);
    } catch (ServerError const& error) {
      pg::throw_error({.sqlstate = error.sqlstate(), .text = error.what(), .detail = error.hint()}, false,
                      error.in_doubt(), options.database.schema);
    }
  }

  ClientOptions options;
  std::shared_ptr<Pool> pool;
  std::once_flag room_made;
  std::optional<produce::WaitRoom> room;
  std::atomic<bool> checked{false};
};

Client::Client(ClientOptions options) {
  if (!options.database_url.empty()) options.database.database_url = options.database_url;
  produce::check(options);
  impl_ = std::make_unique<Impl>(std::move(options));
}
Client::~Client() = default;
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;

EnqueueOutcome Client::enqueue(std::string_view kind, Payload const& payload, EnqueueOptions const& options) {
  std::string headers;
  store::NewJob job = produce::checked(kind, options, headers);
  produce::check_alone(job);
  core::check_payload(payload, impl_->options.max_payload_bytes);
  job.payload = &payload;
  std::string const token = impl_->options.safe_resend && job.token.empty() ? base::random_uuid() : std::string();
  if (!token.empty()) job.token = token;
  return impl_->around(kind, 1, [&] {
    if (!job.token.empty()) return impl_->run_with_token(job);
    return impl_->run([&](pg::Connection& connection) { return store::enqueue(connection, job); });
  });
}

EnqueueOutcome Client::enqueue(Transaction const& transaction, std::string_view kind, Payload const& payload,
                               EnqueueOptions const& options) {
  std::string headers;
  store::NewJob job = produce::checked(kind, options, headers);
  produce::check_alone(job);
  core::check_payload(payload, impl_->options.max_payload_bytes);
  job.payload = &payload;
  return impl_->around(kind, 1, [&] {
    return impl_->run(transaction,
                      [&](Transaction const& t, std::string const& schema) { return store::enqueue(t, schema, job); });
  });
}

std::vector<EnqueueOutcome> Client::enqueue_many(std::span<Request const> requests) {
  Batch const batch(requests, impl_->options.max_payload_bytes);
  if (requests.empty()) return {};
  return impl_->around(requests.front().kind, requests.size(), [&] {
    return impl_->run_many([&](pg::Connection& connection) {
      return requests.size() < copy_from ? store::enqueue_many(connection, batch.list())
                                         : store::copy_many(connection, batch.list());
    });
  });
}

std::vector<EnqueueOutcome> Client::enqueue_many(Transaction const& transaction, std::span<Request const> requests) {
  Batch const batch(requests, impl_->options.max_payload_bytes);
  if (requests.empty()) return {};
  return impl_->around(requests.front().kind, requests.size(), [&] {
    return impl_->run(transaction, [&](Transaction const& t, std::string const& schema) {
      return store::enqueue_many(t, schema, batch.list());
    });
  });
}

std::vector<std::int64_t> Client::enqueue_many(std::string_view kind, std::span<Payload const> payloads,
                                               EnqueueOptions const& options) {
  std::string headers;
  store::NewJob const common = produce::checked(kind, options, headers);
  produce::check_alone(common);
  if (common.keyed()) {
    core::refuse_because(common.token.empty() ? "dedupe_key" : "token", "given for a list of payloads",
                         "one job for each", "call enqueue_many with Requests, each with its own");
  }
  for (std::size_t i = 0; i < payloads.size(); ++i) {
    produce::for_element(i, [&] { core::check_payload(payloads[i], impl_->options.max_payload_bytes); });
  }
  if (payloads.empty()) return {};
  store::JobList const jobs{payloads.size(), [&](std::size_t i) {
                              store::NewJob job = common;
                              job.payload = &payloads[i];
                              return job;
                            }};
  return impl_->around(kind, payloads.size(), [&] {
    return ids_of(impl_->run_many([&](pg::Connection& connection) {
      bool const copy = payloads.size() >= copy_from && !common.deferred();
      return copy ? store::copy_many(connection, jobs) : store::enqueue_many(connection, jobs);
    }));
  });
}

std::optional<JobInfo> Client::find(std::int64_t id) {
  return impl_->run([&](pg::Connection& connection) { return store::Admin(connection).find(id); });
}

std::vector<AttemptError> Client::errors(std::int64_t id) {
  return impl_->run([&](pg::Connection& connection) { return store::Admin(connection).errors(id); });
}

JobOutcome Client::wait(std::int64_t id, std::chrono::milliseconds timeout) {
  return std::move(wait_many(std::span(&id, 1), timeout).front());
}

std::vector<JobOutcome> Client::wait_many(std::span<std::int64_t const> ids, std::chrono::milliseconds timeout) {
  auto const look = [&](std::span<std::int64_t const> some) {
    return impl_->run([&](pg::Connection& connection) { return store::outcomes(connection, some); });
  };
  // Of many, the youngest is watched, since it mostly ends last.
  std::optional<produce::WaitRoom::Watch> watch;
  return produce::wait_for(ids, timeout, look,
                           [&](std::chrono::milliseconds pause, std::span<std::int64_t const> open) {
                             if (pause < watch_from && !watch) {
                               std::this_thread::sleep_for(pause);
                               return false;
                             }
                             if (!watch || watch->job() != open.back()) watch.emplace(impl_->wait_room(), open.back());
                             return watch->sleep(pause);
                           });
}

CancelOutcome Client::cancel(std::int64_t id) {
  std::string const outcome =
      impl_->run([&](pg::Connection& connection) { return store::Admin(connection).cancel(id); });
  if (outcome == "cancelled") return CancelOutcome::cancelled;
  if (outcome == "requested") return CancelOutcome::requested;
  if (outcome == "finished") return CancelOutcome::finished;
  return CancelOutcome::not_found;
}

bool Client::retry(std::int64_t id) {
  return impl_->run([&](pg::Connection& connection) { return store::Admin(connection).retry(id); });
}

void Client::pause_queue(std::string_view queue) {
  core::check_queue(queue);
  impl_->run([&](pg::Connection& connection) { store::Admin(connection).pause_queue(std::string(queue)); });
}

void Client::resume_queue(std::string_view queue) {
  core::check_queue(queue);
  impl_->run([&](pg::Connection& connection) { store::Admin(connection).resume_queue(std::string(queue)); });
}

void Client::pause_kind(std::string_view kind) {
  core::check_kind(kind);
  impl_->run([&](pg::Connection& connection) { store::Admin(connection).pause_kind(std::string(kind)); });
}

void Client::resume_kind(std::string_view kind) {
  core::check_kind(kind);
  impl_->run([&](pg::Connection& connection) { store::Admin(connection).resume_kind(std::string(kind)); });
}

void Client::pause_key(std::string_view kind, std::string_view key) {
  core::check_kind(kind);
  core::check_key(key);
  impl_->run([&](pg::Connection& connection) { store::Keys(connection).pause(std::string(kind), std::string(key)); });
}

void Client::resume_key(std::string_view kind, std::string_view key) {
  core::check_kind(kind);
  core::check_key(key);
  impl_->run([&](pg::Connection& connection) { store::Keys(connection).resume(std::string(kind), std::string(key)); });
}

}  // namespace posthouse
