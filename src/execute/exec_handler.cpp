// SPDX-License-Identifier: Apache-2.0
#include "execute/exec_handler.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/backoff.hpp"
#include "core/payload_check.hpp"
#include "core/text.hpp"
#include "core/time_format.hpp"

namespace posthouse::execute {
namespace {

using namespace std::chrono_literals;

constexpr int kTryLater = 75;
// The same however the worker was started: by hand, by systemd, in a container. `env: [PATH]` passes on the worker's own.
constexpr char const* kDefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr std::size_t kMostMessage = 64 * 1024;

bool is_json(std::string_view text) {
  try {
    core::check_json("output", text);
    return true;
  } catch (InvalidArgument const&) {
    return false;
  }
}

Payload result_of(std::string output) {
  if (output.empty()) return {};
  if (is_json(output)) return json{std::move(output)};
  return bytes{std::move(output)};
}

Failure failure(std::string type, std::string what, std::string const& error_tail) {
  auto const last = error_tail.find_last_not_of(" \t\r\n");
  if (last != std::string::npos) {
    what += ": ";
    what += std::string_view(error_tail).substr(0, last + 1);
  }
  return {.type = std::move(type), .message = core::sanitise(what, kMostMessage), .stack = {}};
}

std::vector<std::string> facts(Job const& job) {
  std::vector<std::string> result{"POSTHOUSE_JOB_ID=" + std::to_string(job.id()), "POSTHOUSE_JOB_KIND=" + job.kind(),
                                  "POSTHOUSE_JOB_QUEUE=" + job.queue(),
                                  "POSTHOUSE_JOB_ATTEMPT=" + std::to_string(job.attempt()),
                                  "POSTHOUSE_JOB_TOKEN=" + job.fencing_token()};
  if (auto const deadline = job.deadline()) {
    auto const left =
        std::chrono::duration_cast<std::chrono::system_clock::duration>(*deadline - std::chrono::steady_clock::now());
    result.push_back("POSTHOUSE_JOB_DEADLINE=" + core::format_time(std::chrono::system_clock::now() + left));
  }
  return result;
}

}  // namespace

Outcome outcome_of(ProgramEnd end, std::string const& program, std::chrono::milliseconds later) {
  // Stopped without a fault of its own: the worker gives the job back, and the attempt is not its own to count.
  if (end.stopped) return Snooze{0ms};
  if (end.timed_out) return failure("Timeout", program + " ran into the timeout and was killed", end.error_tail);
  switch (end.how) {
    case ProgramEnd::How::not_started:
      return failure("NotStarted", end.problem, "");
    case ProgramEnd::How::signalled:
      return failure("Signal", fmt::format("{} was killed by signal {} ({})", program, end.code, ::strsignal(end.code)),
                     end.error_tail);
    case ProgramEnd::How::exited:
      break;
  }
  if (end.code == 0) {
    if (end.output_bytes <= end.output.size()) return Success{result_of(std::move(end.output)), {}};
    auto problem =
        fmt::format("standard output has {} bytes; the first {} are kept", end.output_bytes, end.output.size());
    return Success{end.output.empty() ? Payload{} : Payload{bytes{std::move(end.output)}}, std::move(problem)};
  }
  if (end.code == kTryLater) return Snooze{later};
  return failure("ExitStatus", fmt::format("{} ended with exit status {}", program, end.code), end.error_tail);
}

Handler exec_handler(ExecOptions options) {
  auto const later =
      std::max<std::chrono::milliseconds>(std::chrono::milliseconds(core::delay_ms(options.backoff, 1, 0.5)), 1s);
  Program program;
  program.argv = std::move(options.argv);
  program.environment = std::move(options.environment);
  program.kill_grace = options.kill_grace;
  program.output_limit = options.output_limit;
  bool const has_path = std::any_of(program.environment.begin(), program.environment.end(),
                                    [](std::string const& entry) { return entry.starts_with("PATH="); });
  if (!has_path) program.environment.push_back(std::string("PATH=") + kDefaultPath);
  return [program = std::move(program), later](Job const& job) -> Outcome {
    Program mine = program;
    for (auto& fact : facts(job)) mine.environment.push_back(std::move(fact));
    auto end = run_program(mine, job.payload().data(), job.deadline(), job.stop_token());
    return outcome_of(std::move(end), mine.argv[0], later);
  };
}

}  // namespace posthouse::execute
