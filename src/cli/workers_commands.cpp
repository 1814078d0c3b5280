// SPDX-License-Identifier: Apache-2.0
// workers list, ping.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <memory>
#include <thread>

#include "base/terminal.hpp"
#include "cli/command.hpp"
#include "cli/explain.hpp"
#include "cli/print.hpp"
#include "core/duration.hpp"
#include "core/refuse.hpp"
#include "store/admin.hpp"

namespace posthouse::cli {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds look_every{20};

struct Flags {
  bool all = false;
  bool json = false;
  std::vector<std::string> ids{};
  std::optional<std::string> timeout{};
};

std::string worker_json(store::WorkerInfo const& worker) {
  return JsonObject()
      .id("id", worker.id)
      .text("name", worker.name)
      .text("host", worker.host)
      .number("pid", worker.pid)
      .text("version", worker.version)
      .text("state", worker_state(worker))
      .boolean("leader", worker.leader)
      .raw("queues", json_strings(names_in(worker.queues)))
      .raw("kinds", json_strings(names_in(worker.kinds)))
      .number("slots", worker.slots)
      .number("running", worker.running)
      .number("free", worker.free)
      .raw("rss_bytes", json_number(worker.rss_bytes))
      .raw("cpu_ms", json_number(worker.cpu_ms))
      .raw("children", json_number(worker.children))
      .text("started_at", worker.started_at)
      .text("last_seen_at", worker.last_seen_at)
      .number("silent_ms", worker.silent_ms)
      .number("lease_ms", worker.lease_ms)
      .text("ended_at", worker.ended_at)
      .text("end_reason", worker.end_reason)
      .str();
}

std::string memory_text(std::optional<std::int64_t> const& bytes) {
  return bytes ? fmt::format("{} MiB", (*bytes + (1 << 19)) >> 20) : std::string();
}

int list(Context const& context, Flags const& flags) {
  auto const connection = context.connect();
  auto const workers = store::Admin(*connection).workers(flags.all);
  if (flags.json) {
    std::vector<std::string> objects;
    for (auto const& worker : workers) objects.push_back(worker_json(worker));
    print(json_array(objects));
    return node::ExitStatus::done;
  }
  if (workers.empty()) {
    print("There are no workers. `posthouse work` starts one.\n");
    return node::ExitStatus::done;
  }
  Table table({">WORKER", "NAME", "HOST", ">PID", "VERSION", "STATE", ">SLOTS", ">RUNNING", ">FREE", ">MEMORY", ">CPU",
               ">CHILDREN", "STARTED", "LAST SEEN", "QUEUES", "KINDS"});
  for (auto const& worker : workers) {
    table.add({std::to_string(worker.id), worker.name, worker.host, std::to_string(worker.pid), worker.version,
               worker_state(worker) + (worker.leader ? ", leader" : ""), std::to_string(worker.slots),
               std::to_string(worker.running), std::to_string(worker.free), memory_text(worker.rss_bytes),
               worker.cpu_ms ? length_of(*worker.cpu_ms) : "", worker.children ? std::to_string(*worker.children) : "",
               worker.started_at, ago(worker.silent_ms), worker.queues.empty() ? "all" : worker.queues, worker.kinds});
  }
  print(table.text(base::wants_colour(STDOUT_FILENO)));
  return node::ExitStatus::done;
}

std::int64_t id_of(std::string const& text) {
  std::int64_t id = 0;
  auto const [end, code] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (code != std::errc{} || end != text.data() + text.size() || id < 1) {
    core::refuse("ID", text, "a worker's id, a whole number from 1", "`posthouse workers list` shows ids.");
  }
  return id;
}

/// An answer is a sign of life that is newer than the question, which makes the worker give one at once.
int ping(Context const& context, Flags const& flags) {
  std::vector<std::int64_t> wanted;
  for (auto const& text : flags.ids) wanted.push_back(id_of(text));
  auto const timeout = flags.timeout ? core::parse_duration("--timeout", *flags.timeout, std::chrono::seconds(1))
                                     : milliseconds(std::chrono::seconds(15));
  core::check_range("--timeout", timeout.count(), 100, 600'000, "ms");
  auto const connection = context.connect();
  store::Admin admin(*connection);
  auto const asked = std::chrono::steady_clock::now();
  struct Asked {
    std::int64_t id = 0;
    std::string seen{};
    std::optional<milliseconds> after{};
  };
  std::vector<Asked> workers;
  for (auto const& worker : admin.workers()) {
    if (wanted.empty() ? !is_alive(worker) : std::find(wanted.begin(), wanted.end(), worker.id) == wanted.end()) {
      continue;
    }
    workers.push_back({.id = worker.id, .seen = worker.last_seen_at});
  }
  int status = node::ExitStatus::done;
  for (auto const id : wanted) {
    if (std::any_of(workers.begin(), workers.end(), [&](auto const& w) { return w.id == id; })) continue;
    tell(fmt::format("posthouse: worker {}: has ended, or there is no such worker\n", id));
    status = node::ExitStatus::failed;
  }
  if (workers.empty() && wanted.empty()) {
    tell("posthouse: no worker is alive\n");
    return node::ExitStatus::failed;
  }
  std::vector<std::int64_t> ids;
  for (auto const& worker : workers) ids.push_back(worker.id);
  admin.ping(ids);
  std::size_t answers = 0;
  for (;;) {
    auto const now = admin.workers();
    auto const passed = std::chrono::floor<milliseconds>(std::chrono::steady_clock::now() - asked);
    for (auto& worker : workers) {
      auto const found = std::find_if(now.begin(), now.end(), [&](auto const& w) { return w.id == worker.id; });
      if (worker.after || found == now.end() || found->last_seen_at == worker.seen) continue;
      worker.after = passed;
      ++answers;
      if (!flags.json) print(fmt::format("worker {}: answered after {}\n", worker.id, core::format_duration(passed)));
    }
    if (answers == workers.size() || passed >= timeout) break;
    std::this_thread::sleep_for(std::min(look_every, timeout - passed));
  }
  std::vector<std::string> objects;
  for (auto const& worker : workers) {
    objects.push_back(JsonObject()
                          .id("worker", worker.id)
                          .boolean("answered", worker.after.has_value())
                          .raw("after_ms", worker.after ? std::to_string(worker.after->count()) : "null")
                          .str());
    if (worker.after) continue;
    status = node::ExitStatus::failed;
    if (!flags.json) {
      tell(
          fmt::format("posthouse: worker {}: no answer within {}; one that cannot LISTEN (behind a transaction pooler) "
                      "answers with "
                      "its next heartbeat\n",
                      worker.id, core::format_duration(timeout)));
    }
  }
  if (flags.json) print(json_array(objects));
  return status;
}

}  // namespace

void add_workers_commands(CLI::App& app, Context& context) {
  auto const flags = std::make_shared<Flags>();
  auto& workers =
      add_command(app, "workers", "List the workers with memory and processor time; ask them for signs of life");
  workers.require_subcommand(1);
  auto& list_command = add_command(
      workers, "list",
      "List workers that have not ended: alive, late (silent for two thirds of its lease), lost (for all of it)",
      {"posthouse workers list", "posthouse workers list --all --json | jq '.[] | select(.state == \"lost\")'"});
  list_command.add_flag("--all", flags->all, "those that have ended, too, as long as they are kept (7 days)");
  list_command.add_flag("--json", flags->json, "print an array of objects");
  on_run(list_command, context, [&context, flags] { return list(context, *flags); });

  auto& ping_command =
      add_command(workers, "ping",
                  "Ask each worker for a sign of life and wait for it; exit status 1 when one does not answer in time",
                  {"posthouse workers ping", "posthouse workers ping 17 --timeout 5s"});
  ping_command.add_option("ID", flags->ids, "ids of workers; default: those that are alive")->expected(0, 1000);
  node::add_text(ping_command, "--timeout", flags->timeout, "100ms to 10m, a number is in seconds (default: 15s)",
                 "TIME");
  ping_command.add_flag("--json", flags->json, "print an array of objects");
  on_run(ping_command, context, [&context, flags] { return ping(context, *flags); });
}

}  // namespace posthouse::cli
