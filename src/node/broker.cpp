// SPDX-License-Identifier: Apache-2.0
// posthouse::Broker: the thread that looks after the domains. See broker_domain.hpp.
#include <unistd.h>

#include <algorithm>
#include <map>
#include <posthouse/broker.hpp>
#include <utility>

#include "base/fork_guard.hpp"
#include "base/service.hpp"
#include "core/database_url.hpp"
#include "core/refuse.hpp"
#include "monitor/server.hpp"
#include "node/broker_domain.hpp"
#include "node/broker_door.hpp"

namespace posthouse {

struct BrokerConfig::Impl {
  node::Config config{};
};

std::vector<std::string> BrokerConfig::databases() const {
  std::vector<std::string> names;
  if (!impl_) return names;
  for (auto const& one : impl_->config.databases) names.push_back(one.name);
  return names;
}

std::string BrokerConfig::file() const { return impl_ ? impl_->config.file : std::string(); }
std::vector<std::string> BrokerConfig::warnings() const {
  return impl_ ? impl_->config.warnings : std::vector<std::string>();
}

PoolOptions BrokerConfig::pool(std::string_view database) const {
  static std::vector<node::Config> const none{};
  auto const& all = impl_ ? impl_->config.databases : none;
  auto const it =
      std::find_if(all.begin(), all.end(), [&](auto const& one) { return database.empty() || one.name == database; });
  if (it == all.end()) core::refuse("database", database, "a name of databases()", "");
  return node::producers_pool(*it);
}

BrokerConfig BrokerDoor::wrap(node::Config config) {
  BrokerConfig wrapped;
  wrapped.impl_ = std::make_shared<BrokerConfig::Impl const>(BrokerConfig::Impl{std::move(config)});
  return wrapped;
}

node::Config const& BrokerDoor::unwrap(BrokerConfig const& config) {
  static node::Config const empty{};
  return config.impl_ ? config.impl_->config : empty;
}

BrokerConfig load_config(std::string const& path) {
  node::Sources sources;
  sources.file = path;
  sources.environment = node::process_environment();
  return BrokerDoor::wrap(node::load(sources));
}

std::string_view to_string(DatabaseState state) noexcept {
  switch (state) {
    case DatabaseState::starting:
      return "starting";
    case DatabaseState::serving:
      return "serving";
    case DatabaseState::down:
      return "down";
    case DatabaseState::not_installed:
      return "not_installed";
    case DatabaseState::refused:
      return "refused";
    case DatabaseState::stopping:
      return "stopping";
  }
  return "";
}

static_assert(static_cast<int>(monitor::State::stopping) == static_cast<int>(DatabaseState::stopping) &&
              static_cast<int>(monitor::State::refused) == static_cast<int>(DatabaseState::refused));

struct Broker::Impl {
  using Domains = std::vector<std::shared_ptr<node::Domain>>;

  Impl(BrokerConfig the_config, BrokerOptions options) : config(std::move(the_config)) {
    shared.clock = options.clock ? options.clock : std::make_shared<BrokerClock>();
    if (!options.logger) {
      options.logger = base::fd_logger(STDERR_FILENO, base::LogFormat::text, LogLevel::warning);
    }
    shared.log = base::Log(options.logger);
    shared.options = std::move(options);
    shared.changed = [this] { wake(); };
  }

  void wake() {
    {
      std::lock_guard const lock(wake_mutex);
      awake = true;
    }
    changed.notify_all();
  }

  /// Blocks until something has changed since the last call, or that time.
  void sleep(BrokerClock::Time until) {
    std::unique_lock lock(wake_mutex);
    if (!awake) shared.clock->wait(lock, changed, until);
    awake = false;
  }

  Domains all() const {
    std::lock_guard const lock(mutex);
    auto list = domains;
    list.insert(list.end(), leaving.begin(), leaving.end());
    return list;
  }

  void run(std::stop_token const& stop) {
    while (!stop.stop_requested()) {
      auto const now = shared.clock->now();
      auto until = now + std::chrono::seconds(1);
      for (auto const& domain : all()) {
        domain->tick(now);
        until = std::min(until, domain->due());
      }
      bury();
      {
        std::lock_guard const lock(settled_mutex);
        ++round;
      }
      settled.notify_all();
      sleep(until);
    }
  }

  void bury() {
    Domains gone;
    std::lock_guard const lock(mutex);
    for (auto it = leaving.begin(); it != leaving.end();) {
      if (!(*it)->stopped()) {
        ++it;
        continue;
      }
      gone.push_back(std::move(*it));
      it = leaving.erase(it);
    }
  }

  /// Waits until `holds` is true, which is looked at after each round.
  void await(std::function<bool()> const& holds) {
    std::unique_lock lock(settled_mutex);
    while (!holds()) {
      auto const seen = round;
      settled.wait(lock, [&] { return round != seen; });
    }
  }

  void stop(bool now) {
    guard.check();
    auto const list = all();
    for (auto const& domain : list) domain->request_stop();
    if (now) {
      std::vector<std::jthread> threads;
      for (auto const& domain : list) threads.emplace_back([domain] { domain->stop_now(); });
    }
    std::lock_guard const lifecycle(lifecycle_mutex);
    if (!service.running()) return;
    await([&] { return std::all_of(list.begin(), list.end(), [](auto const& d) { return d->stopped(); }); });
    service.stop();
    server.reset();
    for (auto const& domain : list) sources->remove(domain->name());
    std::lock_guard const lock(mutex);
    domains.clear();
    leaving.clear();
  }

  /// With `mutex`.
  std::shared_ptr<node::Domain> make(node::Config const& one) {
    auto domain = std::make_shared<node::Domain>(one, shared);
    sources->add({.name = one.name,
                  .database = one.database,
                  .health = [domain]() -> monitor::Health {
                    auto const status = domain->status();
                    return {.state = static_cast<monitor::State>(status.state), .problem = status.problem};
                  },
                  .jobs = domain->jobs(),
                  .worker = [domain] { return domain->status().stats; },
                  .connections = [domain] { return domain->connections(); }});
    return domain;
  }

  BrokerConfig config;
  node::BrokerShared shared{};
  base::ForkGuard guard{"Broker"};
  pid_t const owner = ::getpid();

  std::mutex lifecycle_mutex;  // start() and the end of stop()
  mutable std::mutex mutex;    // guards config, domains and leaving; never held while waiting
  Domains domains{};
  Domains leaving{};  // of a reload

  std::shared_ptr<monitor::Sources> const sources = std::make_shared<monitor::Sources>();
  std::unique_ptr<monitor::Server> server{};  // guarded by lifecycle_mutex

  std::mutex wake_mutex;
  std::condition_variable changed;
  bool awake = false;

  std::mutex settled_mutex;
  std::condition_variable settled;
  std::uint64_t round = 0;

  base::Service service{"posthouse-brk", [this](std::stop_token const& stop) { run(stop); }, [this] { wake(); }};
};

Broker::Broker(BrokerConfig config, BrokerOptions options) {
  auto const& read = BrokerDoor::unwrap(config);
  if (read.databases.empty()) {
    throw InvalidArgument(
        "the configuration names no database",
        {.hint = "Give a list of databases, or database_url; `posthouse config example` shows both."});
  }
  for (auto const& one : read.databases) node::check_for_broker(one);
  impl_ = std::make_unique<Impl>(std::move(config), std::move(options));
}

Broker::~Broker() {
  if (!impl_ || impl_->owner != ::getpid()) {
    // The threads belong to the parent: there is nothing to stop, and nothing that may be torn down.
    (void)impl_.release();
    return;
  }
  impl_->stop(false);
}

void Broker::start() {
  auto& impl = *impl_;
  impl.guard.check();
  Impl::Domains list;
  {
    std::lock_guard const lifecycle(impl.lifecycle_mutex);
    if (impl.service.running()) return;
    auto const& listen = BrokerDoor::unwrap(impl.config).http;
    if (!listen.address.empty()) {
      impl.server = std::make_unique<monitor::Server>(listen, impl.sources, impl.shared.log);
      impl.shared.log.info("monitoring", {{"listen", listen.address}, {"port", std::to_string(impl.server->port())}});
    }
    {
      std::lock_guard const lock(impl.mutex);
      for (auto const& one : BrokerDoor::unwrap(impl.config).databases) {
        impl.domains.push_back(impl.make(one));
      }
      list = impl.domains;
    }
    impl.service.start();
  }
  auto const is = [](auto const& domain, DatabaseState state) { return domain->status().state == state; };
  impl.await([&] {
    return std::any_of(list.begin(), list.end(), [&](auto const& d) { return is(d, DatabaseState::serving); }) ||
           std::all_of(list.begin(), list.end(),
                       [&](auto const& d) { return d->tried() || is(d, DatabaseState::stopping); });
  });
  bool const refused =
      std::all_of(list.begin(), list.end(), [&](auto const& d) { return is(d, DatabaseState::refused); });
  if (!refused || impl.shared.options.standby) return;
  std::string text;
  for (auto const& domain : list) {
    text += (text.empty() ? "" : "\n") + (list.size() > 1 ? domain->name() + ": " : "") + domain->status().problem;
  }
  impl.stop(false);
  throw ServerError(text, {.sqlstate = "55006",
                           .in_doubt = false,
                           .hint = "There is one broker a database. Stop that one, or start this one with --standby: "
                                   "it takes over when that one ends."});
}

void Broker::stop() { impl_->stop(false); }

void Broker::stop_now() { impl_->stop(true); }

ReloadReport Broker::reload(BrokerConfig config) {
  auto& impl = *impl_;
  impl.guard.check();
  auto const& next = BrokerDoor::unwrap(config);
  if (next.databases.empty()) throw InvalidArgument("the configuration names no database");
  for (auto const& one : next.databases) node::check_for_broker(one);
  ReloadReport report;
  {
    std::lock_guard const lock(impl.mutex);
    auto const& before = BrokerDoor::unwrap(impl.config);
    if (before.log_format != next.log_format) report.ignored.emplace_back("logging.format");
    if (before.http.address != next.http.address) report.ignored.emplace_back("http.listen");
    if (before.http.allow_remote != next.http.allow_remote) report.ignored.emplace_back("http.allow_remote");
    if (before.http.allowed_hosts != next.http.allowed_hosts) report.ignored.emplace_back("http.allowed_hosts");
    if (before.databases.front().broker.name != next.databases.front().broker.name) {
      report.ignored.emplace_back("broker.name");
    }
    Impl::Domains kept;
    for (auto const& one : next.databases) {
      auto const it =
          std::find_if(impl.domains.begin(), impl.domains.end(), [&](auto const& d) { return d->name() == one.name; });
      if (it == impl.domains.end()) {
        kept.push_back(impl.make(one));
        report.added.push_back(one.name);
        continue;
      }
      auto const was = (*it)->config();
      // A new password is no other database.
      bool const same_place = core::redact_database_url(was.database.database_url) ==
                                  core::redact_database_url(one.database.database_url) &&
                              was.database.schema == one.database.schema;
      if (was.fingerprint == one.fingerprint) {
        kept.push_back(*it);
      } else if (same_place) {
        (*it)->reconfigure(one);
        kept.push_back(*it);
        report.changed.push_back(one.name);
      } else {
        impl.leaving.push_back(*it);
        (*it)->request_stop();
        kept.push_back(impl.make(one));
        report.changed.push_back(one.name);
      }
    }
    for (auto const& domain : impl.domains) {
      auto const stays = std::any_of(next.databases.begin(), next.databases.end(),
                                     [&](auto const& one) { return one.name == domain->name(); });
      if (stays) continue;
      impl.leaving.push_back(domain);
      domain->request_stop();
      impl.sources->remove(domain->name());
      report.removed.push_back(domain->name());
    }
    impl.domains = std::move(kept);
    impl.config = std::move(config);
  }
  impl.wake();
  return report;
}

std::vector<DatabaseStatus> Broker::status() const {
  Impl::Domains list;
  {
    std::lock_guard const lock(impl_->mutex);
    list = impl_->domains;
  }
  std::vector<DatabaseStatus> result;
  for (auto const& domain : list) result.push_back(domain->status());
  return result;
}

}  // namespace posthouse
