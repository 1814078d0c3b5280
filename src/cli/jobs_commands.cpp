// SPDX-License-Identifier: Apache-2.0
// jobs list, show, cancel, retry, delete. wait is in wait_command.cpp.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <memory>
#include <span>
#include <thread>
#include <utility>

#include "base/terminal.hpp"
#include "cli/command.hpp"
#include "cli/explain.hpp"
#include "cli/job_text.hpp"
#include "cli/jobs_output.hpp"
#include "cli/print.hpp"
#include "core/names.hpp"
#include "core/refuse.hpp"
#include "store/admin.hpp"
#include "store/broker_job.hpp"
#include "store/outcome.hpp"

namespace posthouse::cli {
namespace {

struct Flags {
  std::optional<std::string> state{};
  std::optional<std::string> kind{};
  std::optional<std::string> queue{};
  std::optional<std::string> before{};
  int limit = 50;
  bool json = false;
  bool wait = false;
  std::vector<std::string> ids{};
};

store::JobFilter filter_of(Flags const& flags) {
  store::JobFilter filter;
  filter.state = flags.state;
  filter.kind = flags.kind;
  filter.queue = flags.queue;
  filter.limit = flags.limit;
  if (flags.state && std::find(job_states.begin(), job_states.end(), *flags.state) == job_states.end()) {
    core::refuse("--state", *flags.state, fmt::format("{}", fmt::join(job_states, ", ")), "");
  }
  if (flags.kind) core::check_kind(*flags.kind);
  if (flags.queue) core::check_queue(*flags.queue);
  if (flags.before) filter.before = id_of("--before", *flags.before);
  core::check_range("--limit", flags.limit, 1, 10'000);
  return filter;
}

/// Ids are strings in JSON.
std::string ids_json(std::vector<std::int64_t> const& ids) {
  std::vector<std::string> texts;
  for (auto const id : ids) texts.push_back(std::to_string(id));
  return json_strings(texts);
}

JsonObject job_json(JobInfo const& job) {
  JsonObject object;
  object.id("id", job.id)
      .text("kind", job.kind)
      .text("queue", job.queue)
      .number("priority", job.priority)
      .text("state", job.state)
      .number("attempt", job.attempt)
      .number("max_attempts", job.max_attempts)
      .text("key", job.key)
      .text("dedupe_key", job.dedupe_key)
      .text("enqueued_at", job.enqueued_at)
      .text("run_at", job.run_at)
      .text("started_at", job.started_at)
      .text("finished_at", job.finished_at)
      .text("expires_at", job.expires_at)
      .id("worker", job.worker);
  add_payload(object, "payload", "payload_bytes", job.payload);
  object.raw("headers", job.headers.empty() ? "{}" : job.headers).text("last_error", job.last_error);
  object.raw("depends_on", ids_json(job.depends_on)).raw("waits_for", ids_json(job.waits_for));
  return object;
}

/// A kind's own limit is not in the database, so the limit that we know is wrong for a job that ended before it.
std::string attempts(JobInfo const& job, std::string_view of) {
  bool const ended_early = job.state == "failed" && job.attempt < job.max_attempts;
  return ended_early ? std::to_string(job.attempt) : fmt::format("{}{}{}", job.attempt, of, job.max_attempts);
}

int list(Context const& context, Flags const& flags) {
  auto const filter = filter_of(flags);
  auto const connection = context.connect();
  print_jobs(store::Admin(*connection).list(filter), filter.limit, flags.json);
  return node::ExitStatus::done;
}

void show_people(JobInfo const& job, std::optional<store::BrokerJobInfo> const& broker, JobOutcome const& outcome,
                 std::vector<AttemptError> const& errors, std::vector<std::string> const& why) {
  auto const line = [](std::string_view name, std::string_view value) {
    if (!value.empty()) print(fmt::format("{:<13}{}\n", name, base::printable(value)));
  };
  line("job", std::to_string(job.id));
  line("state", job.state);
  for (auto const& sentence : why) line("", sentence);
  if (broker) {
    line("job name", broker->name);
    if (broker->run_as) {
      line("runs as",
           *broker->run_as == broker->made_by ? *broker->run_as : *broker->run_as + ", added by " + broker->made_by);
    } else {
      line("added by", broker->made_by);
    }
    line("user login", broker->user_login.value_or(""));
    if (broker->schedule) line("schedule", std::to_string(*broker->schedule));
  }
  line("kind", job.kind);
  line("queue", job.queue);
  line("priority", std::to_string(job.priority));
  line("attempt", attempts(job, " of "));
  line("enqueued at", job.enqueued_at);
  line("key", job.key.value_or(""));
  line("dedupe key", job.dedupe_key.value_or(""));
  line("run at", job.run_at.value_or(""));
  line("started at", job.started_at.value_or(""));
  line("finished at", job.finished_at.value_or(""));
  line("expires at", job.expires_at.value_or(""));
  if (outcome.progress) {
    line("progress", fmt::format("{:.0f} %{}{}", *outcome.progress * 100, outcome.progress_text.empty() ? "" : ", ",
                                 outcome.progress_text));
  }
  line("depends on", fmt::format("{}", fmt::join(job.depends_on, ", ")));
  line("waits for", fmt::format("{}", fmt::join(job.waits_for, ", ")));
  line("worker", job.worker ? std::to_string(*job.worker) : "");
  if (!job.headers.empty() && job.headers != "{}") line("headers", job.headers);
  if (broker && broker->run_as) {
    print(fmt::format("{:<13}{}\n", "statement", base::printable(broker->statement, base::Lines::many)));
  } else {
    print(fmt::format("{:<13}{}\n", "payload", shown_payload(job.payload)));
  }
  if (!outcome.result.is_null()) print(fmt::format("{:<13}{}\n", "result", shown_payload(outcome.result)));
  line(outcome.result.is_null() ? "no result" : "", outcome.result_problem.value_or(""));
  for (auto const& error : errors) {
    print(fmt::format("\nattempt {} failed at {}: {}\n  {}\n", error.attempt, base::printable(error.at),
                      base::printable(error.type), base::printable(error.message, base::Lines::many)));
    if (!error.stack.empty()) print("  " + base::printable(error.stack, base::Lines::many) + "\n");
  }
}

[[noreturn]] void no_such_job(std::int64_t id) {
  throw Error(ErrorClass::invalid_argument, fmt::format("there is no job {}", id),
              {.hint = "Finished jobs are kept for a time (retention); `posthouse jobs list` shows what there is."});
}

int show(Context const& context, Flags const& flags) {
  auto const id = id_of("ID", flags.ids.at(0));
  auto const connection = context.connect();
  store::Admin admin(*connection);
  auto const job = admin.find(id);
  if (!job) no_such_job(id);
  auto const errors = admin.errors(id);
  auto const outcome = store::outcomes(*connection, std::span(&id, 1)).at(0);
  Around around{.workers = admin.workers(true), .queues = admin.queues(), .kinds = admin.kinds()};
  if (job->state == "blocked") around.parents = store::awaited_by(*connection, id, 10);
  if (job->state == "available") {
    around.ahead = admin.ahead(id, most_ahead);
    around.limits = store::Limits(*connection).on(id);
    store::Keys keys(*connection);
    around.key = keys.of_job(id);
    if (around.key) {
      auto first = around.key->holders;
      first.resize(std::min<std::size_t>(first.size(), 5));
      around.key_holders = keys.holders(first);
    }
  }
  auto const why = explain(*job, around);
  auto const broker = store::broker_job(*connection, id);
  if (!flags.json) {
    show_people(*job, broker, outcome, errors, why);
    return node::ExitStatus::done;
  }
  std::vector<std::string> history;
  for (auto const& error : errors) {
    history.push_back(JsonObject()
                          .number("attempt", error.attempt)
                          .text("at", error.at)
                          .id("worker", error.worker)
                          .text("type", error.type)
                          .text("message", error.message)
                          .text("stack", error.stack)
                          .str());
  }
  auto object = job_json(*job);
  if (broker) {
    object.text("job_name", broker->name)
        .text("execute_str", broker->statement)
        .text("run_as", broker->run_as)
        .text("made_by", broker->made_by)
        .text("user_login", broker->user_login)
        .id("schedule_id", broker->schedule);
  }
  add_payload(object, "result", "result_bytes", outcome.result);
  object.text("result_problem", outcome.result_problem);
  if (outcome.progress) {
    object.raw("progress", fmt::format("{}", *outcome.progress)).text("progress_text", outcome.progress_text);
  } else {
    object.raw("progress", "null").raw("progress_text", "null");
  }
  std::string sentences;
  for (auto const& sentence : why) sentences += (sentences.empty() ? "" : " ") + sentence;
  object.text("explanation", sentences).raw("errors", fmt::format("[{}]", fmt::join(history, ", ")));
  print(json_array({object.str()}));
  return node::ExitStatus::done;
}

/// Applies a verb to each id; the verb returns what to say, and whether it did its work.
template <class Verb>
int each(Context const& context, Flags const& flags, Verb verb) {
  std::vector<std::int64_t> ids;
  for (auto const& text : flags.ids) ids.push_back(id_of("ID", text));
  auto const connection = context.connect();
  store::Admin admin(*connection);
  bool all = true;
  for (auto const id : ids) {
    auto const [done, text] = verb(admin, id);
    all = all && done;
    if (done) {
      print(fmt::format("job {}: {}\n", id, text));
    } else {
      tell(fmt::format("posthouse: job {}: {}\n", id, text));
    }
  }
  return all ? node::ExitStatus::done : node::ExitStatus::failed;
}

using Said = std::pair<bool, std::string>;

/// How a job that was asked to stop has ended.
Said wait_for_end(store::Admin& admin, std::int64_t id) {
  for (;;) {
    auto const job = admin.find(id);
    if (!job || job->state == "cancelled") return {true, "cancelled"};
    if (job->finished_at && job->state != "running") return {false, "was asked to stop and has " + job->state};
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

Said cancel(store::Admin& admin, std::int64_t id, bool wait) {
  auto const outcome = admin.cancel(id);
  if (outcome == "cancelled") return {true, "cancelled"};
  if (outcome == "requested") {
    return wait ? wait_for_end(admin, id) : Said{true, "is running; its handler is asked to stop"};
  }
  if (outcome == "finished") return {false, "has ended already"};
  return {false, "there is no such job"};
}

Said retry(store::Admin& admin, std::int64_t id) {
  if (admin.retry(id)) return {true, "is available now"};
  auto const job = admin.find(id);
  if (!job) return {false, "there is no such job"};
  return {false, "is " + job->state +
                     "; only scheduled, blocked, retryable, failed, cancelled and expired jobs can be retried"};
}

Said remove(store::Admin& admin, std::int64_t id) {
  if (admin.remove(id)) return {true, "deleted"};
  auto const job = admin.find(id);
  if (!job) return {false, "there is no such job"};
  return {false, "is " + job->state + "; running jobs cannot be deleted, succeeded ones go with their retention"};
}

}  // namespace

void print_jobs(std::vector<JobInfo> const& jobs, int limit, bool json) {
  if (json) {
    std::vector<std::string> objects;
    for (auto const& job : jobs) objects.push_back(job_json(job).str());
    print(json_array(objects));
    return;
  }
  if (jobs.empty()) {
    print("No such jobs.\n");
    return;
  }
  Table table({">ID", "STATE", "KIND", "QUEUE", ">PRIORITY", ">ATTEMPT", "ENQUEUED", "LAST ERROR"});
  for (auto const& job : jobs) {
    table.add({std::to_string(job.id), job.state, job.kind, job.queue, std::to_string(job.priority), attempts(job, "/"),
               job.enqueued_at, job.last_error.value_or("")});
  }
  print(table.text(base::wants_colour(STDOUT_FILENO)));
  if (std::cmp_equal(jobs.size(), limit)) {
    tell(fmt::format("There may be more: add --before {} or --limit.\n", jobs.back().id));
  }
}

void add_jobs_commands(CLI::App& app, Context& context) {
  auto& jobs = add_command(app, "jobs", "List, show and wait for jobs; cancel, retry and delete them");
  jobs.require_subcommand(1);
  auto const flags = std::make_shared<Flags>();

  auto& list_command = add_command(jobs, "list", "List jobs, newest first",
                                   {"posthouse jobs list --state failed --kind send_mail",
                                    "posthouse jobs list --limit 1000 --json | jq -r '.[].id'"});
  node::add_text(list_command, "--state", flags->state, fmt::format("{}", fmt::join(job_states, ", ")), "STATE");
  node::add_text(list_command, "--kind", flags->kind, "jobs of this kind", "NAME");
  node::add_text(list_command, "--queue", flags->queue, "jobs of this queue", "NAME");
  node::add_text(list_command, "--before", flags->before, "ids below this one: the next page", "ID");
  list_command.add_option("--limit", flags->limit, "1 to 10000 (default: 50)")->type_name("N");
  list_command.add_flag("--json", flags->json, "print an array of objects");
  on_run(list_command, context, [&context, flags] { return list(context, *flags); });

  auto& show_command =
      add_command(jobs, "show", "Show one job and say why it does not run", {"posthouse jobs show 42"});
  show_command.add_option("ID", flags->ids, "id of the job")->required()->expected(1);
  show_command.add_flag("--json", flags->json, "print an array of one object");
  on_run(show_command, context, [&context, flags] { return show(context, *flags); });

  add_jobs_wait_command(jobs, context);

  auto const add_each = [&](char const* name, char const* description, char const* example,
                            Said (*verb)(store::Admin&, std::int64_t)) {
    auto& command = add_command(jobs, name, description, {example});
    command.add_option("ID", flags->ids, "ids of jobs")->required();
    on_run(command, context, [&context, flags, verb] { return each(context, *flags, verb); });
  };
  auto& cancel_command = add_command(jobs, "cancel", "Cancel jobs; handlers of running ones are asked to stop",
                                     {"posthouse jobs cancel 42 43", "posthouse jobs cancel 42 --wait"});
  cancel_command.add_option("ID", flags->ids, "ids of jobs")->required();
  cancel_command.add_flag("--wait", flags->wait, "until running ones have ended; fails when one was not cancelled");
  on_run(cancel_command, context, [&context, flags] {
    return each(context, *flags, [&](store::Admin& admin, std::int64_t id) { return cancel(admin, id, flags->wait); });
  });
  add_each("retry", "Make jobs available now: scheduled, blocked, retryable, failed, cancelled or expired ones",
           "posthouse jobs retry 42", retry);
  add_each("delete", "Delete jobs that neither run nor have succeeded", "posthouse jobs delete 42", remove);
}

}  // namespace posthouse::cli
