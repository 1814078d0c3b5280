// SPDX-License-Identifier: Apache-2.0
// demo: a hundred thousand jobs on a private server, from enqueue to the summary, and nothing left behind.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include <posthouse/client.hpp>
#include <posthouse/error.hpp>
#include <posthouse/worker.hpp>

#include "base/terminal.hpp"
#include "cli/command.hpp"
#include "cli/demo_config.hpp"
#include "cli/explain.hpp"
#include "cli/print.hpp"
#include "core/duration.hpp"
#include "dev/private_server.hpp"
#include "dev/programs.hpp"
#include "node/config_keys.hpp"
#include "node/run_worker.hpp"
#include "node/signals.hpp"
#include "store/admin.hpp"
#include "store/migrate.hpp"
#include "store/server_info.hpp"

namespace posthouse::cli {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr char const* kSchema = "posthouse_demo";
constexpr auto kPatience = 120s;
constexpr auto kReserve = 3s;

/// Hundredths of a percent of the jobs, so that the mix stays the same for any number.
struct Part {
  char const* kind;
  int share;
  char const* what;
};
constexpr Part kParts[] = {
    {"demo.quick", 7488, "C++ handlers that do nothing"},
    {"demo.flaky", 1500, "fail at first every third time, then succeed"},
    {"demo.later", 500, "start with a delay of up to five seconds"},
    {"demo.ledger", 500, "SQL, in one transaction with their completion"},
    {"demo.program", 10, "programs"},
    {"demo.broken", 2, "always fail, and end as dead letters"},
};

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string shown_ms(double ms) {
  if (ms < 0.001) return "under 1 µs";
  if (ms < 1) return fmt::format("{:.1f} µs", ms * 1000);
  if (ms < 10) return fmt::format("{:.1f} ms", ms);
  if (ms < 1000) return fmt::format("{:.0f} ms", ms);
  return fmt::format("{:.1f} s", ms / 1000);
}

/// Measurements of many threads; what does not fit is left out.
class Samples {
 public:
  explicit Samples(std::size_t most) : values_(most) {}
  void add(double ms) {
    auto const at = count_.fetch_add(1);
    if (at < values_.size()) values_[at] = static_cast<float>(ms);
  }
  [[nodiscard]] std::string percentiles() {
    values_.resize(std::min(values_.size(), count_.load()));
    if (values_.empty()) return "none";
    std::sort(values_.begin(), values_.end());
    auto const at = [&](double p) {
      return values_[static_cast<std::size_t>(p * static_cast<double>(values_.size() - 1))];
    };
    return fmt::format("p50 {}, p99 {}", shown_ms(at(0.5)), shown_ms(at(0.99)));
  }

 private:
  std::vector<float> values_;
  std::atomic<std::size_t> count_ = 0;
};

/// The moment from which the job could have run, which the demo put into the payload; 0: not there.
std::int64_t due_of(Job const& job) {
  constexpr std::string_view name = "\"due\": ";
  auto const text = job.payload().data();
  auto const at = text.find(name);
  std::int64_t due = 0;
  if (at != std::string_view::npos) std::from_chars(text.data() + at + name.size(), text.data() + text.size(), due);
  return due;
}

/// SIGINT or SIGTERM, on its way through everything that has to be taken back.
struct Interrupted {};

class Demo {
 public:
  /// With `tidy` the schema is removed whatever happens; a private server goes with its schema.
  Demo(DatabaseOptions database, int jobs, bool tidy, node::SignalWatch const& signals)
      : database_(std::move(database)),
        jobs_(jobs),
        tidy_(tidy),
        signals_(signals),
        wait_(static_cast<std::size_t>(jobs)),
        run_(static_cast<std::size_t>(jobs)) {
    database_.schema = kSchema;
  }

  void go() {
    connection_ = pg::Connection::open(database_);
    if (tidy_) reserve();
    Removal const removal(tidy_ ? &database_ : nullptr);
    store::install(*connection_);
    Worker worker(worker_options());
    register_handlers(worker);
    worker.start();
    Client client({.database = database_});
    set_up(client);

    auto const began = Clock::now();
    auto const wal = store::wal_position(*connection_);
    enqueue(client);
    auto const enqueued = Clock::now();
    watch(began);
    auto const ended = Clock::now();
    auto const wal_end = store::wal_position(*connection_);
    measure_wake_up(client);
    worker.stop();
    summary(std::chrono::duration<double>(enqueued - began).count(),
            std::chrono::duration<double>(ended - began).count(), wal_end - wal);
  }

 private:
  /// Takes the schema away when it goes.
  class Removal {
   public:
    explicit Removal(DatabaseOptions const* database) : database_(database) {}
    Removal(Removal const&) = delete;
    Removal& operator=(Removal const&) = delete;
    ~Removal() {
      try {
        if (database_ != nullptr) store::uninstall(*pg::Connection::open(*database_));
      } catch (SchemaMissing const&) {  // it did not come so far
      } catch (std::exception const& error) {
        tell(fmt::format("posthouse: schema {} is left: {}\n  Remove it with: posthouse uninstall --yes --schema {}\n",
                         kSchema, base::printable(error.what()), kSchema));
      }
    }

   private:
    DatabaseOptions const* database_;
  };

  /// One demo a database at a time, and nothing of an earlier one that was killed.
  void reserve() {
    auto const until = Clock::now() + kReserve;  // the session of one that was just killed ends in a moment
    while (!store::reserve_schema(*connection_)) {
      if (Clock::now() > until) {
        throw Unavailable("another demo runs in this database", {.hint = "wait until it has ended"});
      }
      rest(50ms);
    }
    try {
      store::uninstall(*connection_);
      tell("Removed what an earlier demo left.\n");
    } catch (SchemaMissing const&) {  // as it should be
    }
  }

  /// Sleeps, unless somebody wants it to end.
  void rest(std::chrono::milliseconds time) const {
    if (signals_.count() == 0) signals_.wait(time);
    if (signals_.count() > 0) throw Interrupted();
  }

  WorkerOptions worker_options() {
    WorkerOptions options;
    options.database = database_;
    options.concurrency = 8;
    options.with_prefetch(4000, 30s);
    options.logger = base::fd_logger(STDERR_FILENO, base::LogFormat::text, LogLevel::error);
    options.around = [this](Job const& job, std::function<Outcome()> const& next) {
      auto const due = job.attempt() == 1 ? due_of(job) : 0;
      if (due > 0) wait_.add(static_cast<double>(std::max<std::int64_t>(0, now_ms() - due)));
      auto const began = Clock::now();
      auto outcome = next();
      run_.add(std::chrono::duration<double, std::milli>(Clock::now() - began).count());
      return outcome;
    };
    return options;
  }

  void register_handlers(Worker& worker) {
    std::vector<node::Problem> problems;
    node::Config config;
    config.database = database_;
    config.concurrency = 8;
    node::apply_tree(node::parse_tree(std::string(demo_config), "demo.yaml", node::Layer::file, problems), config,
                     problems);
    if (!problems.empty()) throw node::ConfigError(std::move(problems));
    node::register_configured(worker, config, {}, base::Log());

    worker.on("demo.quick", [](Job const&) {});
    worker.on("demo.later", [](Job const&) {});
    HandlerOptions flaky;
    flaky.backoff = Backoff::fixed({300ms, 1s});
    worker.on("demo.flaky", flaky, [](Job const& job) {
      if (job.attempt() == 1 && job.id() % 3 == 0) throw std::runtime_error("the other side is busy");
    });
    HandlerOptions broken;
    broken.max_attempts = 3;
    broken.backoff = Backoff::fixed({500ms});
    worker.on("demo.broken", broken, [](Job const&) { throw std::logic_error("this job can never succeed"); });
    worker.on("demo.ping", [this](Job const&) { pinged_ = Clock::now().time_since_epoch().count(); });
  }

  void set_up(Client& client) {
    auto const id = client.enqueue("demo.setup").id;
    auto const until = Clock::now() + 30s;
    for (;;) {
      auto const job = client.find(id);
      if (job && job->state == "succeeded") return;
      if (job && job->last_error) throw std::runtime_error("the demo cannot be set up: " + *job->last_error);
      if (Clock::now() > until) throw std::runtime_error("the demo cannot be set up: its first job does not run");
      rest(20ms);
    }
  }

  void enqueue(Client& client) {
    for (auto const& part : kParts) {
      auto const count = static_cast<std::int64_t>(jobs_) * part.share / 10'000;
      auto const later = std::string_view(part.kind) == "demo.later";
      constexpr std::int64_t groups = 10;
      for (std::int64_t group = 0; group < (later ? groups : 1); ++group) {
        EnqueueOptions options;
        if (later) options.delay = std::chrono::milliseconds(500 * (group + 1));
        send(client, part.kind, later ? count / groups : count, options);
      }
    }
  }

  void send(Client& client, std::string const& kind, std::int64_t count, EnqueueOptions const& options) {
    constexpr std::int64_t at_once = 10'000;
    for (std::int64_t from = 0; from < count; from += at_once) {
      auto const due = now_ms() + options.delay.value_or(0ms).count();
      std::vector<Payload> payloads;
      for (auto n = from; n < std::min(count, from + at_once); ++n) {
        payloads.emplace_back(json{fmt::format(R"({{"n": {}, "due": {}}})", n, due)});
      }
      rest(0ms);
      sent_ += static_cast<std::int64_t>(client.enqueue_many(kind, payloads, options).size());
      progress_.show([&] { return fmt::format("{}  {} enqueued", bar(0), with_commas(sent_)); });
    }
  }

  std::map<std::string, std::int64_t> states() {
    std::map<std::string, std::int64_t> by_state;
    counts_ = store::Admin(*connection_).counts();
    for (auto const& count : counts_) by_state[count.state] += count.jobs;
    return by_state;
  }

  void watch(Clock::time_point began) {
    for (;;) {
      auto by_state = states();
      auto const ended = by_state["succeeded"] + by_state["failed"] - 1;  // the set-up's own job aside
      progress_.show([&] {
        auto const seconds = std::chrono::duration<double>(Clock::now() - began).count();
        auto line = fmt::format("{}  {}/s", bar(static_cast<double>(ended) / static_cast<double>(sent_)),
                                with_commas(static_cast<std::int64_t>(static_cast<double>(ended) / seconds)));
        for (auto const state : job_states) {
          auto const count = by_state[std::string(state)];
          if (count > 0) line += fmt::format("  {} {}", with_commas(count), state);
        }
        return line;
      });
      if (ended >= sent_) break;
      if (Clock::now() > began + kPatience) throw std::runtime_error("the jobs take longer than the demo has patience");
      rest(100ms);
    }
    progress_.clear();
  }

  /// How soon an idle worker starts a job that is enqueued alone.
  void measure_wake_up(Client& client) {
    for (int i = 0; i < 40; ++i) {
      rest(25ms);
      pinged_ = 0;
      client.enqueue("demo.ping");
      auto const committed = Clock::now();
      while (pinged_ == 0 && Clock::now() < committed + 2s) std::this_thread::sleep_for(200us);
      if (pinged_ == 0) return;
      auto const ping = Clock::time_point(Clock::duration(pinged_.load()));
      wake_up_.add(std::max(0.0, std::chrono::duration<double, std::milli>(ping - committed).count()));
    }
  }

  void summary(double enqueue_seconds, double seconds, std::int64_t wal) {
    bool const colour = base::wants_colour(STDOUT_FILENO);
    Table table({"KIND", ">succeeded", ">failed", ""});
    for (auto const& part : kParts) {
      std::map<std::string, std::int64_t> row;
      for (auto const& count : counts_) {
        if (count.kind == part.kind) row[count.state] += count.jobs;
      }
      table.add({part.kind, with_commas(row["succeeded"]), with_commas(row["failed"]), part.what});
    }
    print(table.text(colour));
    auto const rate = [&](double time) {
      return with_commas(static_cast<std::int64_t>(static_cast<double>(sent_) / time));
    };
    print(fmt::format("\n{} in {:.1f} s, one worker process with 8 threads\n", count_of(sent_, "job"), seconds));
    print(fmt::format("  enqueued  {} jobs/s\n", rate(enqueue_seconds)));
    print(fmt::format("  worked    {} jobs/s, delays and retries included\n", rate(seconds)));
    print(fmt::format("  waited    {} (a backlog waits for its turn)\n", wait_.percentiles()));
    print(fmt::format("  ran       {}\n", run_.percentiles()));
    print(fmt::format("  wake-up   {} from the commit of a lone job to its start\n", wake_up_.percentiles()));
    print(fmt::format("  WAL       {} bytes a job, everything included\n", wal / std::max<std::int64_t>(1, sent_)));
  }

  DatabaseOptions database_;
  int jobs_;
  bool tidy_;
  node::SignalWatch const& signals_;
  std::unique_ptr<pg::Connection> connection_;
  std::vector<store::Count> counts_;
  std::int64_t sent_ = 0;
  Progress progress_;
  Samples wait_;
  Samples run_;
  Samples wake_up_{1000};
  std::atomic<std::int64_t> pinged_ = 0;
};

/// As one word for a shell.
std::string shell_quoted(std::string const& text) {
  std::string out = "'";
  for (char const c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

/// Lines for a shell, as they stand.
std::string next_steps() {
  std::string text = "\nWhat to try next:\n";
  auto const self = std::filesystem::read_symlink("/proc/self/exe");
  auto const found = dev::find_on_path("posthouse");
  std::error_code ignored;
  if (!found || !std::filesystem::equivalent(*found, self, ignored)) {
    text += "  export PATH=" + shell_quoted(self.parent_path().string()) + ":\"$PATH\"\n";
  }
  return text +
         "  posthouse dev start && posthouse install        # a server that stays, with the tables\n"
         "  posthouse enqueue hello '{\"name\": \"world\"}'     # put a job in, from here or from SQL:\n"
         "  posthouse dev psql -- -c \"select posthouse.enqueue('hello', '{}')\"\n"
         "  echo 'kinds: {hello: {exec: [/usr/bin/wc, -c]}}' > hello.yaml    # a handler without code\n"
         "  posthouse work --config hello.yaml --once; posthouse stats       # run them, look at them\n"
         "  posthouse bench throughput --jobs 50000         # measure it here, beside plain SQL\n"
         "  posthouse dev stop                              # the data stay; --remove removes them\n";
}

int run(Context const& context, int jobs) {
  node::SignalWatch const signals;
  std::unique_ptr<dev::PrivateServer> server;
  DatabaseOptions database;
  if (context.global.database_url) {
    database = context.config().database;
  } else {
    std::string folder = (std::filesystem::temp_directory_path() / "posthouse-demo-XXXXXX").string();
    if (::mkdtemp(folder.data()) == nullptr) throw std::runtime_error("cannot make a folder for the demo's server");
    tell("Starting a private PostgreSQL ...\n");
    server = std::make_unique<dev::PrivateServer>(dev::ServerOptions{.folder = folder, .ephemeral = true});
    server->start();
    database.database_url = server->url();
  }
  tell(fmt::format("Working {} ...\n", count_of(jobs, "job")));
  try {
    Demo(database, jobs, server == nullptr, signals).go();
  } catch (Interrupted const&) {
    server.reset();
    tell("posthouse: the demo was interrupted; nothing of it is left\n");
    return 128 + signals.latest();
  }
  print(next_steps());
  return node::ExitStatus::done;
}

}  // namespace

void add_demo_command(CLI::App& app, Context& context) {
  auto const jobs = std::make_shared<int>(100'000);
  auto const config = std::make_shared<bool>(false);
  auto& command =
      add_command(app, "demo", "Show a hundred thousand jobs go through, on a private server that is gone afterwards",
                  {"posthouse demo", "posthouse demo --print-config"});
  command.add_option("--jobs", *jobs, "10000 to 10000000 (default: 100000)")
      ->type_name("N")
      ->check(CLI::Range(10'000, 10'000'000));
  command.add_flag("--print-config", *config, "print the handlers without code that it uses");
  on_run(command, context, [&context, jobs, config] {
    if (!*config) return run(context, *jobs);
    print(demo_config);
    return node::ExitStatus::done;
  });
}

}  // namespace posthouse::cli
