// SPDX-License-Identifier: Apache-2.0
// jobs wait: until jobs have ended, with their results.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <posthouse/client.hpp>

#include "base/terminal.hpp"
#include "cli/command.hpp"
#include "cli/job_text.hpp"
#include "cli/print.hpp"
#include "core/duration.hpp"

namespace posthouse::cli {
namespace {

struct Flags {
  std::vector<std::string> ids{};
  std::optional<std::string> timeout{};
  bool json = false;
};

std::string json_of(JobOutcome const& outcome) {
  JsonObject object;
  object.id("id", outcome.id).text("state", outcome.state);
  add_payload(object, "result", "result_bytes", outcome.result);
  object.text("result_problem", outcome.result_problem).text("error", outcome.error);
  return object.str();
}

void print_people(JobOutcome const& outcome) {
  if (!outcome.ended()) {
    return tell(fmt::format("posthouse: job {}: has not ended, it is {}\n", outcome.id, outcome.state));
  }
  if (outcome.state == "not_found") {
    return tell(fmt::format("posthouse: job {}: there is no such job, or it is not kept any more\n", outcome.id));
  }
  std::string line = fmt::format("job {}: {}", outcome.id, outcome.state);
  if (!outcome.succeeded() && outcome.error) line += ": " + base::printable(*outcome.error, base::Lines::many);
  if (!outcome.result.is_null()) line += ": " + shown_payload(outcome.result);
  if (outcome.result_problem) line += " (" + base::printable(*outcome.result_problem) + ")";
  print(line + "\n");
}

int wait(Context const& context, Flags const& flags) {
  std::vector<std::int64_t> ids;
  for (auto const& text : flags.ids) ids.push_back(id_of("ID", text));
  auto const timeout = flags.timeout ? core::parse_duration("--timeout", *flags.timeout, std::chrono::seconds(1))
                                     : std::chrono::milliseconds::max();
  ClientOptions options;
  options.database = context.config().database;
  auto const outcomes = Client(std::move(options)).wait_many(ids, timeout);
  if (flags.json) {
    std::vector<std::string> objects;
    for (auto const& outcome : outcomes) objects.push_back(json_of(outcome));
    print(json_array(objects));
  } else {
    for (auto const& outcome : outcomes) print_people(outcome);
  }
  auto const all = [&](bool (JobOutcome::*is)() const) {
    return std::all_of(outcomes.begin(), outcomes.end(), [is](JobOutcome const& outcome) { return (outcome.*is)(); });
  };
  if (!all(&JobOutcome::ended)) return node::ExitStatus::unfinished;
  return all(&JobOutcome::succeeded) ? node::ExitStatus::done : node::ExitStatus::failed;
}

}  // namespace

void add_jobs_wait_command(CLI::App& jobs, Context& context) {
  auto const flags = std::make_shared<Flags>();
  auto& command = add_command(
      jobs, "wait", "Wait until jobs have ended; status 0: all succeeded, 1: some did not, 5: the time was over first",
      {"posthouse jobs wait 42 --timeout 30s", "posthouse jobs wait 42 43 --json | jq '.[].result'"});
  command.add_option("ID", flags->ids, "ids of jobs")->required();
  node::add_text(command, "--timeout", flags->timeout, "longest wait: 500ms, 30s, 5m; a number is in s (default: none)",
                 "TIME");
  command.add_flag("--json", flags->json, "print an array of objects");
  on_run(command, context, [&context, flags] { return wait(context, *flags); });
}

}  // namespace posthouse::cli
