// SPDX-License-Identifier: Apache-2.0
// dead list, retry, purge: the dead letters.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <memory>

#include "cli/command.hpp"
#include "cli/job_text.hpp"
#include "cli/jobs_output.hpp"
#include "cli/print.hpp"
#include "core/duration.hpp"
#include "core/names.hpp"
#include "core/refuse.hpp"
#include "core/time_format.hpp"
#include "store/admin.hpp"

namespace posthouse::cli {
namespace {

constexpr int retry_batch = 500;
constexpr int purge_batch = 5'000;
constexpr std::array<std::string_view, 3> dead_states{"failed", "cancelled", "expired"};

struct Flags {
  std::vector<std::string> ids{};
  std::optional<std::string> state{};
  std::optional<std::string> kind{};
  std::optional<std::string> queue{};
  std::optional<std::string> before{};
  std::optional<std::string> older_than{};
  std::optional<std::int64_t> limit{};
  bool all = false;
  bool yes = false;
  bool json = false;
};

void check(Flags const& flags) {
  if (flags.state && std::find(dead_states.begin(), dead_states.end(), *flags.state) == dead_states.end()) {
    core::refuse("--state", *flags.state, fmt::format("{}", fmt::join(dead_states, ", ")), "");
  }
  if (flags.kind) core::check_kind(*flags.kind);
  if (flags.queue) core::check_queue(*flags.queue);
}

int list(Context const& context, Flags const& flags) {
  check(flags);
  store::JobFilter filter;
  filter.state = flags.state.value_or("dead");
  filter.kind = flags.kind;
  filter.queue = flags.queue;
  core::check_range("--limit", flags.limit.value_or(50), 1, 10'000);
  filter.limit = static_cast<int>(flags.limit.value_or(50));
  if (flags.before) filter.before = id_of("--before", *flags.before);
  auto const connection = context.connect();
  print_jobs(store::Admin(*connection).list(filter), filter.limit, flags.json);
  return node::ExitStatus::done;
}

using Step = store::DeadBatch (store::Admin::*)(store::DeadFilter const&, std::optional<std::int64_t>, int);

/// Batch after batch, each in a transaction of its own, until there are no more.
std::int64_t in_batches(store::Admin& admin, Step step, store::DeadFilter const& filter, int batch,
                        std::int64_t limit) {
  Progress progress;
  std::int64_t done = 0;
  std::optional<std::int64_t> after;
  while (done < limit) {
    auto const got = (admin.*step)(filter, after, static_cast<int>(std::min<std::int64_t>(batch, limit - done)));
    done += got.done;
    if (!got.last) break;
    after = got.last;
    progress.show([&] { return with_commas(done); });
  }
  return done;
}

int said(Flags const& flags, std::string_view name, std::string_view sentence, std::int64_t count) {
  if (flags.json) {
    print(json_array({JsonObject().number(name, count).str()}));
  } else {
    print(fmt::format("{} {}\n", count_of(count, "job"), sentence));
  }
  return node::ExitStatus::done;
}

int retry_all(Context const& context, Flags const& flags) {
  check(flags);
  auto const limit = flags.limit.value_or(std::numeric_limits<std::int64_t>::max());
  core::check_range("--limit", limit, 1, std::numeric_limits<std::int64_t>::max());
  auto const connection = context.connect();
  store::Admin admin(*connection);
  // One that fails again meanwhile has ended after this moment, and is left alone.
  store::DeadFilter const filter{
      .state = flags.state.value_or("failed"), .kind = flags.kind, .queue = flags.queue, .before = admin.now()};
  return said(flags, "retried", "available now",
              in_batches(admin, &store::Admin::retry_dead, filter, retry_batch, limit));
}

int retry_some(Context const& context, Flags const& flags) {
  std::vector<std::int64_t> ids;
  for (auto const& text : flags.ids) ids.push_back(id_of("ID", text));
  auto const connection = context.connect();
  store::Admin admin(*connection);
  std::vector<std::string> objects;
  int status = node::ExitStatus::done;
  for (auto const id : ids) {
    auto const job = admin.find(id);
    bool const dead = job && std::find(dead_states.begin(), dead_states.end(), job->state) != dead_states.end();
    bool const retried = dead && admin.retry(id);
    objects.push_back(JsonObject().id("id", id).boolean("retried", retried).str());
    if (!retried) {
      tell(fmt::format("posthouse: job {}: {}\n", id,
                       !job    ? "there is no such job"
                       : !dead ? "is " + job->state + ", no dead letter"
                               : "was retried or deleted by somebody else meanwhile"));
      status = node::ExitStatus::failed;
    } else if (!flags.json) {
      print(fmt::format("job {}: is available now\n", id));
    }
  }
  if (flags.json) print(json_array(objects));
  return status;
}

int retry(Context const& context, Flags const& flags) {
  if (flags.all != flags.ids.empty()) {
    throw InvalidArgument(flags.all ? "both --all and ids are given" : "neither an ID nor --all is given",
                          {.hint = "`posthouse dead list` shows ids; --all retries all that failed."});
  }
  if (!flags.all && (flags.state || flags.kind || flags.queue || flags.limit)) {
    throw InvalidArgument("--state, --kind, --queue and --limit go with --all", {.hint = "Leave them or the ids out."});
  }
  return flags.all ? retry_all(context, flags) : retry_some(context, flags);
}

int purge(Context const& context, Flags const& flags) {
  check(flags);
  std::optional<std::chrono::milliseconds> age;
  if (flags.older_than) age = core::parse_duration("--older-than", *flags.older_than, std::chrono::seconds(1));
  if (!flags.yes) {
    throw InvalidArgument(
        "purge deletes dead letters and the errors of their attempts",
        {.hint = "Add --yes to do it; `posthouse dead list` with the same options shows some of them."});
  }
  auto const connection = context.connect();
  store::Admin admin(*connection);
  auto before = admin.now();
  if (age) before = core::format_time(core::parse_time("now", before) - *age);
  store::DeadFilter const filter{.state = flags.state, .kind = flags.kind, .queue = flags.queue, .before = before};
  return said(
      flags, "purged", "deleted",
      in_batches(admin, &store::Admin::purge_dead, filter, purge_batch, std::numeric_limits<std::int64_t>::max()));
}

}  // namespace

void add_dead_commands(CLI::App& app, Context& context) {
  auto& dead =
      add_command(app, "dead", "List, retry and purge dead letters: jobs that ended otherwise than by success");
  dead.require_subcommand(1);
  auto const flags = std::make_shared<Flags>();
  auto const add_filter = [&](CLI::App& command, std::string const& state) {
    node::add_text(command, "--state", flags->state, fmt::format("{} ({})", fmt::join(dead_states, ", "), state),
                   "STATE");
    node::add_text(command, "--kind", flags->kind, "jobs of this kind", "NAME");
    node::add_text(command, "--queue", flags->queue, "jobs of this queue", "NAME");
  };

  auto& list_command = add_command(
      dead, "list", "List dead letters, newest first",
      {"posthouse dead list --kind send_mail", "posthouse dead list --state failed --json | jq -r '.[].last_error'"});
  add_filter(list_command, "default: all");
  node::add_text(list_command, "--before", flags->before, "ids below this one: the next page", "ID");
  list_command.add_option("--limit", flags->limit, "1 to 10000 (default: 50)")->type_name("N");
  list_command.add_flag("--json", flags->json, "print an array of objects");
  on_run(list_command, context, [&context, flags] { return list(context, *flags); });

  auto& retry_command =
      add_command(dead, "retry", "Make dead letters available again, by id or all that match",
                  {"posthouse dead retry 42 43", "posthouse dead retry --all --kind send_mail --limit 1000"});
  retry_command.add_option("ID", flags->ids, "ids of jobs")->expected(0, 100'000);
  retry_command.add_flag("--all", flags->all, "all that match, oldest id first, in batches of 500");
  add_filter(retry_command, "with --all; default: failed");
  retry_command.add_option("--limit", flags->limit, "with --all: at most so many (default: no limit)")->type_name("N");
  retry_command.add_flag("--json", flags->json, "print an array of objects");
  on_run(retry_command, context, [&context, flags] { return retry(context, *flags); });

  auto& purge_command =
      add_command(dead, "purge", "Delete dead letters, in batches of 5000",
                  {"posthouse dead purge --older-than 7d --yes", "posthouse dead purge --kind send_mail --yes"});
  add_filter(purge_command, "default: all");
  node::add_text(purge_command, "--older-than", flags->older_than,
                 "that ended so long ago: 12h, 7d; a number is in seconds (default: all)", "TIME");
  purge_command.add_flag("--yes", flags->yes, "really do it");
  purge_command.add_flag("--json", flags->json, "print an array of one object");
  on_run(purge_command, context, [&context, flags] { return purge(context, *flags); });
}

}  // namespace posthouse::cli
