// SPDX-License-Identifier: Apache-2.0
// See run_broker.hpp.
#include "node/run_broker.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <memory>
#include <posthouse/broker.hpp>
#include <string>

#include "base/log.hpp"
#include "base/notify.hpp"
#include "node/broker_door.hpp"
#include "node/signals.hpp"

namespace posthouse::node {
namespace {

using namespace std::chrono_literals;

constexpr auto kLookEvery = 1s;

LogLevel level_of(Config const& config) {
  bool const debug = std::any_of(config.databases.begin(), config.databases.end(),
                                 [](auto const& one) { return one.broker.enable_debug; });
  return debug ? LogLevel::debug : config.log_level;
}

/// Writes what is at or above a level that can be changed.
struct Journal {
  std::shared_ptr<std::atomic<LogLevel>> level{};
  Logger logger{};
  explicit Journal(Config const& config) : level(std::make_shared<std::atomic<LogLevel>>(level_of(config))) {
    // Machines read what a daemon writes.
    auto const format = config.log_format_given ? config.log_format : base::LogFormat::json;
    logger = [level = level, write = base::fd_logger(STDERR_FILENO, format, LogLevel::debug)](LogRecord const& record) {
      if (record.level >= level->load(std::memory_order_relaxed)) write(record);
    };
  }
};

std::string joined(std::vector<std::string> const& names) {
  std::string text;
  for (auto const& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "none" : text;
}

/// "2 of 3 databases are served; down: c".
std::string summary(Broker const& broker) {
  std::size_t served = 0;
  std::string rest;
  auto const all = broker.status();
  for (auto const& one : all) {
    if (one.state == DatabaseState::serving) {
      ++served;
    } else {
      rest += "; " + std::string(to_string(one.state)) + ": " + one.name;
    }
  }
  return std::to_string(served) + " of " + std::to_string(all.size()) + " databases are served" + rest;
}

void reload(Broker& broker, GlobalFlags const& global, Journal const& journal, base::Log const& log) {
  try {
    auto config = load(sources_of(global));
    for (auto const& warning : config.warnings) log.warning(warning);
    auto const level = level_of(config);
    auto const report = broker.reload(BrokerDoor::wrap(std::move(config)));
    journal.level->store(level);
    log.info(
        "configuration read again",
        {{"added", joined(report.added)}, {"changed", joined(report.changed)}, {"removed", joined(report.removed)}});
    if (!report.ignored.empty()) {
      log.warning("changes that need a restart are not in use", {{"keys", joined(report.ignored)}});
    }
  } catch (ConfigError const& error) {
    for (auto const& problem : error.problems()) {
      log.error("configuration is wrong, the old one stays in use",
                {{"where", problem.where}, {"key", problem.key}, {"problem", problem.text}});
    }
  } catch (Error const& error) {
    log.error("configuration is wrong, the old one stays in use", {{"problem", error.what()}});
  }
}

}  // namespace

int start_broker(GlobalFlags const& global, StartFlags const& flags) {
  auto config = load_and_tell(sources_of(global));
  if (config.databases.empty()) require_url(config);
  Journal const journal(config);
  base::Log const log(journal.logger);
  if (!config.file.empty()) log.info("configuration read", {{"file", config.file}});

  BrokerOptions options;
  options.logger = journal.logger;
  options.standby = flags.standby;
  options.install = flags.install;
  SignalWatch const signals(true);
  base::ServiceNotifier const systemd = base::ServiceNotifier::from_environment();
  Broker broker(BrokerDoor::wrap(std::move(config)), std::move(options));

  // A stop must be heard while databases are tried.
  auto starting = std::async(std::launch::async, [&] {
    broker.start();
    signals.interrupt();
  });
  bool ready = false;
  std::future<void> stopping;
  bool hurried = false;
  std::string said;
  auto const every = std::min<std::chrono::milliseconds>(systemd.watchdog_every().value_or(kLookEvery), kLookEvery);
  for (;;) {
    if (starting.valid() && starting.wait_for(0s) == std::future_status::ready) {
      starting.get();  // throws when all are refused
      ready = true;
      log.info("broker started", {{"databases", summary(broker)}});
      systemd.say("READY=1");
    }
    if (stopping.valid() && stopping.wait_for(0s) == std::future_status::ready) break;
    if (signals.take_hangups() > 0 && ready && !stopping.valid()) {
      systemd.say("RELOADING=1");
      reload(broker, global, journal, log);
      systemd.say("READY=1");
    }
    if (signals.count() >= 1 && !stopping.valid()) {
      log.info("broker stops: running jobs may finish; a second signal stops them");
      systemd.say("STOPPING=1");
      stopping = std::async(std::launch::async, [&] {
        broker.stop();
        signals.interrupt();
      });
    }
    if (signals.count() >= 2 && !hurried) {
      hurried = true;
      log.warning("broker stops at once: running jobs are asked to stop and given back");
      broker.stop_now();
    }
    // Asking for the state takes the locks that a hanging broker would hold.
    auto const state = summary(broker);
    systemd.say("WATCHDOG=1");
    if (state != said) systemd.say("STATUS=" + state);
    said = state;
    signals.wait(every);
  }
  if (starting.valid()) starting.wait();
  log.info("broker ended");
  return ExitStatus::done;
}

}  // namespace posthouse::node
