// SPDX-License-Identifier: Apache-2.0
// A worker whose handlers do what their job's payload says, and write down that they did.
#include <openssl/evp.h>

#include <atomic>
#include <boost/json.hpp>
#include <csignal>
#include <memory>
#include <optional>
#include <posthouse/adapter/libpq.hpp>
#include <posthouse/posthouse.hpp>
#include <random>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "base/random.hpp"
#include "concurrency/chaos_features.hpp"
#include "concurrency/chaos_history.hpp"
#include "concurrency/programs/chaos.hpp"
#include "support/sql.hpp"

namespace posthouse::test::chaos {
namespace {

using namespace std::chrono_literals;

/// What a job wants.
struct Plan {
  std::int64_t u = 0;  ///< the client's own number of the job
  milliseconds time{0};
  std::int64_t fails = 0;  ///< so many attempts fail first
  /// plain: an effect by itself; ledger: effect and completion in one transaction; snooze: once, then plain; discard.
  std::string how = "plain";
  /// no: stops when asked to; deaf: does not look; told: waits until asked to, then tries to complete all the same.
  std::string manner = "no";

  explicit Plan(Payload const& payload) {
    auto const value_of_payload = boost::json::parse(payload.data());
    auto const& object = value_of_payload.as_object();
    u = object.at("u").to_number<std::int64_t>();
    if (auto const* value = object.if_contains("ms")) time = milliseconds(value->to_number<std::int64_t>());
    if (auto const* value = object.if_contains("fails")) fails = value->to_number<std::int64_t>();
    if (auto const* value = object.if_contains("how")) how = value->as_string().c_str();
    if (auto const* value = object.if_contains("manner")) manner = value->as_string().c_str();
  }
};

std::string sha256(std::string_view data) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (EVP_Digest(data.data(), data.size(), digest, &size, EVP_sha256(), nullptr) != 1)
    throw std::runtime_error("no SHA-256");
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) {
    hex += "0123456789abcdef"[digest[i] >> 4U];
    hex += "0123456789abcdef"[digest[i] & 15U];
  }
  return hex;
}

class Handlers {
 public:
  Handlers(std::string url, History& history) : url_(std::move(url)), history_(history) {}

  Outcome run(Job const& job) {
    Plan const plan(job.payload());
    history_.note("start", {{"u", std::to_string(plan.u)},
                            {"job", std::to_string(job.id())},
                            {"attempt", std::to_string(job.attempt())},
                            {"token", job.fencing_token()},
                            {"kind", job.kind()}});
    auto const until = std::chrono::steady_clock::now() + (plan.manner == "told" ? milliseconds(60s) : plan.time);
    auto const stopped = [&] { return plan.manner != "deaf" && job.stop_token().stop_requested(); };
    while (!stopped()) {
      auto const now = std::chrono::steady_clock::now();
      if (now >= until) break;
      std::this_thread::sleep_for(std::min<std::chrono::nanoseconds>(until - now, 5ms));
    }
    if (stopped() && plan.manner != "told") {
      end(job, plan, "stopped");
      throw std::runtime_error("asked to stop");
    }
    if (job.attempt() <= plan.fails) {
      end(job, plan, "failed");
      throw std::runtime_error("as planned");
    }
    if (plan.how == "discard") {
      end(job, plan, "discarded");
      return Discard{.reason = "as planned"};
    }
    try {
      return effect(job, plan);
    } catch (SqlError const& error) {
      // The record comes first: whatever the worker makes of the exception, the handler had failed.
      own().reset();
      end(job, plan, "failed", error.what());
      throw;
    }
  }

 private:
  static std::optional<Sql>& own() {
    thread_local std::optional<Sql> connection;
    return connection;
  }
  Sql& sql() {
    auto& connection = own();
    if (!connection || PQstatus(connection->connection()) != CONNECTION_OK) connection.emplace(url_);
    return *connection;
  }

  /// What the job brings back: any bytes, or JSON as jsonb writes it, different in each run; written down first.
  Payload result(Job const& job) {
    static thread_local std::mt19937_64 random{std::random_device{}()};
    std::string text;
    bool const as_json = random() % 4 == 0;
    if (as_json) {
      text = R"({"id": )" + std::to_string(job.id()) + R"(, "token": ")" + job.fencing_token() + R"("})";
    } else {
      text.resize(random() % (random() % 50 == 0 ? 200'000 : 500));
      for (auto& byte : text) byte = static_cast<char>(random());
    }
    history_.note("result", {{"token", job.fencing_token()}, {"sha256", sha256(text)}});
    return as_json ? Payload(json(text)) : Payload(bytes(text));
  }

  Outcome effect(Job const& job, Plan const& plan) {
    if (plan.how == "ledger") {
      complete(job, plan);
      return Success{};
    }
    bool snooze = false;
    if (plan.how == "snooze") {
      snooze = sql().number("select count(*) from chaos.effect where u = $1 and how = 'snooze'", plan.u) == 0;
    }
    write(job, plan, snooze ? "snooze" : "auto");
    if (snooze) {
      end(job, plan, "snoozed");
      return Snooze{milliseconds{50 + plan.u % 200}};
    }
    auto value = result(job);
    end(job, plan, "done");
    return Success{.result = std::move(value)};
  }

  void complete(Job const& job, Plan const& plan) {
    auto& connection = sql();
    connection.exec("begin");
    write(job, plan, "tx");
    try {
      job.complete(connection.connection(), result(job));
    } catch (LeaseLost const&) {
      end(job, plan, "lost", job.stop_token().stop_requested() ? "told" : "not told");
      own().reset();  // which rolls back
      throw;
    } catch (Error const& error) {
      throw SqlError(error.what(), error.sqlstate());
    }
    if (base::random_unit() < 0.05) {
      connection.exec("rollback");
      throw SqlError("undone on purpose", "");
    }
    if (base::random_unit() < 0.2) std::this_thread::sleep_for(milliseconds(plan.u % 30));
    try {
      connection.exec("commit");
    } catch (SqlError const& error) {
      end(job, plan, "doubt", error.what());
      own().reset();
      throw std::runtime_error("commit in doubt");
    }
    end(job, plan, "completed");
  }

  void write(Job const& job, Plan const& plan, char const* how) {
    sql().rows("insert into chaos.effect (u, job, attempt, token, how) values ($1, $2, $3, $4, $5)", plan.u, job.id(),
               job.attempt(), job.fencing_token(), how);
  }
  void end(Job const& job, Plan const& plan, char const* how, std::string const& why = {}) {
    history_.note("end", {{"u", std::to_string(plan.u)},
                          {"job", std::to_string(job.id())},
                          {"attempt", std::to_string(job.attempt())},
                          {"token", job.fencing_token()},
                          {"how", how},
                          {"why", why.substr(0, 120)}});
  }

  std::string const url_;
  History& history_;
};

std::vector<std::string> words(std::string const& text) {
  std::vector<std::string> result;
  std::istringstream in(text);
  for (std::string word; std::getline(in, word, ',');) result.push_back(word);
  return result;
}

}  // namespace

int run_worker(Arguments const& arguments) {
  History history(arguments.text("history"));
  WorkerOptions options;
  options.database_url = arguments.text("url");
  options.name = arguments.text("name");
  options.queues = words(arguments.text("queues"));
  options.concurrency = arguments.number("concurrency");
  options.with_prefetch(arguments.number("prefetch"), arguments.time("lease"));
  options.heartbeat_interval = arguments.time("heartbeat");
  options.stop_grace = arguments.time("grace");
  options.database.connect_timeout = options.database.statement_timeout = arguments.time("timeout");
  options.duties = arguments.number("duties") != 0;
  options.logger = [&](LogRecord const& record) {
    if (record.level == LogLevel::debug) return;
    std::string text(record.message);
    for (auto const& [key, value] : record.fields) text += " " + key + ":" + value;
    history.note("log", {{"text", text.substr(0, 400)}});
  };

  Handlers handlers(options.database_url, history);
  HandlerOptions policy;
  policy.backoff = Backoff::fixed({50ms, 100ms, 200ms});
  Worker worker(options);
  for (auto const& kind : words(arguments.text("kinds"))) {
    if (kind == "ticked") {
      worker.on(kind, policy, [&](Job const& job) -> Outcome {
        history.note("tick", {{"job", std::to_string(job.id())}, {"tick", job.headers().at("posthouse.tick")}});
        return Success{};
      });
      continue;
    }
    policy.concurrency_limit = kind == "limited" ? limited_at_once : 0;
    worker.on(kind, policy, [&](Job const& job) { return handlers.run(job); });
  }
  for (;;) {
    try {
      worker.run();
      history.note("left", {{"name", options.name}});
      return 0;
    } catch (Unavailable const& error) {
      // What a service manager does; SIGTERM ends it here.
      history.note("log", {{"text", std::string("cannot start: ") + error.what()}});
      std::this_thread::sleep_for(100ms);
    }
  }
}

}  // namespace posthouse::test::chaos
