// SPDX-License-Identifier: Apache-2.0
// enqueue: one job from the arguments, or one a line from standard input.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include <posthouse/client.hpp>

#include "cli/command.hpp"
#include "cli/job_text.hpp"
#include "cli/print.hpp"
#include "core/duration.hpp"
#include "core/names.hpp"
#include "core/payload_check.hpp"
#include "core/refuse.hpp"
#include "core/time_format.hpp"
#include "produce/check.hpp"
#include "store/bulk.hpp"

namespace posthouse::cli {
namespace {

constexpr std::size_t kChunkJobs = 10'000;
constexpr std::size_t kChunkBytes = 4 * 1024 * 1024;

struct Flags {
  std::string kind{};
  std::optional<std::string> payload{};
  std::string queue = "default";
  int priority = 0;
  std::optional<std::string> delay{};
  std::optional<std::string> run_at{};
  std::vector<std::string> headers{};
  std::optional<int> max_attempts{};
  std::optional<std::string> expires_in{};
  std::optional<std::string> expires_at{};
  std::optional<std::string> timeout{};
  std::optional<std::string> key{};
  std::vector<std::string> depends_on{};
  bool any_end = false;
  std::optional<std::string> dedupe_key{};
  std::optional<std::string> on_duplicate{};
  std::optional<std::string> dedupe_scope{};
  std::optional<std::string> dedupe_window{};
  std::optional<std::string> token{};
  bool raw = false;
  bool lines = false;
  bool json = false;
};

/// Standard input in pieces, so that neither a long line nor a long input needs more memory than its bound.
class Input {
 public:
  /// False at the end. A line feed ends a line and is not part of it.
  bool line(std::string& into, std::size_t longest) {
    into.clear();
    bool any = false;
    for (;;) {
      if (at_ == end_ && !fill()) return any;
      any = true;
      auto const* const begin = buffer_.data() + at_;
      auto const* const feed = static_cast<char const*>(std::memchr(begin, '\n', end_ - at_));
      auto const length = feed == nullptr ? end_ - at_ : static_cast<std::size_t>(feed - begin);
      into.append(begin, std::min(length, longest + 1 - std::min(into.size(), longest + 1)));
      at_ += length + (feed == nullptr ? 0 : 1);
      if (feed != nullptr) return true;
    }
  }

  /// More than `longest` bytes when there is more to come: whatever is behind them is not read.
  std::string all(std::size_t longest) {
    std::string text;
    while (text.size() <= longest && (at_ < end_ || fill())) {
      text.append(buffer_.data() + at_, end_ - at_);
      at_ = end_;
    }
    return text;
  }

  [[nodiscard]] std::int64_t bytes_read() const noexcept { return read_; }

  /// Of a regular file; 0 when nobody knows.
  [[nodiscard]] static std::int64_t size() {
    struct stat info {};
    return ::fstat(STDIN_FILENO, &info) == 0 && S_ISREG(info.st_mode) ? info.st_size : 0;
  }

 private:
  bool fill() {
    for (;;) {
      auto const got = ::read(STDIN_FILENO, buffer_.data(), buffer_.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) throw InvalidArgument(std::string("cannot read standard input: ") + std::strerror(errno));
      at_ = 0;
      end_ = static_cast<std::size_t>(got);
      read_ += got;
      return got > 0;
    }
  }

  std::vector<char> buffer_ = std::vector<char>(256 * 1024);
  std::size_t at_ = 0;
  std::size_t end_ = 0;
  std::int64_t read_ = 0;
};

EnqueueOptions options_of(Flags const& flags) {
  EnqueueOptions options;
  options.queue = flags.queue;
  options.priority = flags.priority;
  options.max_attempts = flags.max_attempts;
  if (flags.delay) options.delay = core::parse_duration("--delay", *flags.delay, std::chrono::seconds(1));
  if (flags.run_at) options.run_at = core::parse_time("--run-at", *flags.run_at);
  if (flags.expires_in) {
    options.expires_in = core::parse_duration("--expires-in", *flags.expires_in, std::chrono::seconds(1));
  }
  if (flags.expires_at) options.expires_at = core::parse_time("--expires-at", *flags.expires_at);
  if (flags.timeout) options.timeout = core::parse_duration("--timeout", *flags.timeout, std::chrono::seconds(1));
  if (flags.key) {
    core::check_key(*flags.key);
    options.key = *flags.key;
  }
  for (auto const& id : flags.depends_on) options.depends_on.push_back(id_of("--depends-on", id));
  if (flags.any_end && flags.depends_on.empty()) {
    core::refuse_because("--any-end", "given without --depends-on", "both", "leave it out");
  }
  options.depends_on_all_ok = !flags.any_end;
  if (flags.dedupe_key) {
    core::check_dedupe_key(*flags.dedupe_key);
    options.dedupe_key = *flags.dedupe_key;
  }
  if (flags.on_duplicate == "error") {
    options.on_duplicate = OnDuplicate::error;
  } else if (flags.on_duplicate == "replace") {
    options.on_duplicate = OnDuplicate::replace;
  } else if (flags.on_duplicate == "reschedule") {
    options.on_duplicate = OnDuplicate::reschedule;
    if (!flags.delay && !flags.run_at) {
      core::refuse_because("--on-duplicate", "reschedule without --delay or --run-at", "one of them beside it", "");
    }
  } else if (flags.on_duplicate && flags.on_duplicate != "skip") {
    core::refuse("--on-duplicate", *flags.on_duplicate, "skip, error, replace, reschedule", "");
  }
  if (flags.dedupe_scope == "until_claimed") {
    options.dedupe_scope = DedupeScope::until_claimed;
  } else if (flags.dedupe_scope && flags.dedupe_scope != "unfinished") {
    core::refuse("--dedupe-scope", *flags.dedupe_scope, "unfinished, until_claimed", "");
  }
  if (flags.dedupe_window) {
    options.dedupe_window = core::parse_duration("--dedupe-window", *flags.dedupe_window, std::chrono::seconds(1));
  }
  if (flags.token) {
    core::check_token(*flags.token);
    options.token = *flags.token;
  }
  for (auto const& header : flags.headers) {
    auto const equals = header.find('=');
    if (equals == std::string::npos || equals == 0) core::refuse("--header", header, "NAME=VALUE", "");
    if (!options.headers.emplace(header.substr(0, equals), header.substr(equals + 1)).second) {
      core::refuse("--header", header, "each name once", "");
    }
  }
  return options;
}

Payload payload_of(Flags const& flags, std::string text) {
  if (flags.raw) return bytes{std::move(text)};
  return json{std::move(text)};
}

/// For what was read up to its bound alone: nobody knows how long all of it is.
void check_length(std::string const& text, std::size_t longest) {
  if (text.size() <= longest) return;
  core::refuse_because("payload", fmt::format("has more than {} bytes", longest), fmt::format("at most {}", longest),
                       "Store large data elsewhere and send its address.");
}

std::string_view name_of(EnqueueStatus status) {
  switch (status) {
    case EnqueueStatus::created:
      return "created";
    case EnqueueStatus::duplicate:
      return "duplicate";
    case EnqueueStatus::mismatch:
      return "mismatch";
    case EnqueueStatus::replaced:
      return "replaced";
    case EnqueueStatus::rescheduled:
      return "rescheduled";
  }
  return "created";
}

int enqueue_one(Context const& context, Flags const& flags) {
  ClientOptions client_options;
  auto const options = options_of(flags);
  Payload payload;
  if (flags.payload == "-") {
    auto text = Input().all(client_options.max_payload_bytes);
    check_length(text, client_options.max_payload_bytes);
    payload = payload_of(flags, std::move(text));
  } else if (flags.payload) {
    payload = payload_of(flags, *flags.payload);
  }
  try {
    core::check_payload(payload, client_options.max_payload_bytes);
  } catch (InvalidArgument const& error) {
    bool const word = payload.is_json() && flags.payload != "-";
    throw InvalidArgument(error.what(),
                          {.hint = word ? "A text needs quotes of its own, as in '\"hello\"'; any bytes go "
                                          "with --raw."
                                        : error.hint()});
  }
  client_options.database = context.config().database;
  auto const outcome = Client(std::move(client_options)).enqueue(flags.kind, payload, options);
  if (outcome.status == EnqueueStatus::mismatch) {
    throw InvalidArgument(fmt::format("--token {} has enqueued another job: {}", options.token, outcome.id),
                          {.hint = "A token names one job; make a new one for a new job."});
  }
  if (outcome.status == EnqueueStatus::duplicate && !flags.json) {
    bool const started = options.on_duplicate != OnDuplicate::skip;
    tell(fmt::format("posthouse: nothing was enqueued: job {} has the dedupe key{}\n", outcome.id,
                     started ? " and has started" : ""));
  } else if (outcome.status != EnqueueStatus::created && !flags.json) {
    tell(fmt::format("posthouse: job {} has the dedupe key: {}\n", outcome.id, name_of(outcome.status)));
  }
  print(flags.json
            ? json_array({JsonObject().id("id", outcome.id).text("status", std::string(name_of(outcome.status))).str()})
            : fmt::format("{}\n", outcome.id));
  return node::ExitStatus::done;
}

/// Ids of many jobs; they come in few runs, so this stays small.
class Ids {
 public:
  void add(std::int64_t id) {
    ++count_;
    if (!runs_.empty() && runs_.back().second + 1 == id) {
      runs_.back().second = id;
    } else {
      runs_.emplace_back(id, id);
    }
  }
  [[nodiscard]] std::int64_t count() const noexcept { return count_; }

  void print_all(bool json) const {
    std::string out = json ? "[" : "";
    bool first = true;
    for (auto const& [from, to] : runs_) {
      for (auto id = from; id <= to; ++id) {
        out += json ? fmt::format("{}\n  {{\"id\": \"{}\"}}", std::exchange(first, false) ? "" : ",", id)
                    : fmt::format("{}\n", id);
        if (out.size() < 64 * 1024) continue;
        print(out);
        out.clear();
      }
    }
    print(out + (json ? (count_ == 0 ? "]\n" : "\n]\n") : ""));
  }

  [[nodiscard]] std::string summary() const {
    if (runs_.empty()) return "none";
    auto text = fmt::format("{} to {}", runs_.front().first, runs_.back().second);
    if (runs_.size() > 1) text += fmt::format(" in {} runs", runs_.size());
    return text;
  }

 private:
  std::vector<std::pair<std::int64_t, std::int64_t>> runs_;
  std::int64_t count_ = 0;
};

int enqueue_lines(Context const& context, Flags const& flags) {
  if (flags.payload && flags.payload != "-") {
    core::refuse("PAYLOAD", *flags.payload, "nothing, or -, with --lines", "The payloads come from standard input.");
  }
  if (flags.dedupe_key || flags.token) {
    core::refuse_because(flags.token ? "--token" : "--dedupe-key", "given with --lines", "one job for each",
                         "Leave it out; in SQL enqueue_many takes one for each job.");
  }
  auto const longest = ClientOptions{}.max_payload_bytes;
  std::string headers;
  auto const options = options_of(flags);
  auto const model = produce::checked(flags.kind, options, headers);

  auto const connection = context.connect();
  store::Bulk bulk(*connection);
  Input input;
  Ids ids;
  Progress progress;
  std::vector<Payload> chunk;
  std::size_t chunk_bytes = 0;
  auto const flush = [&] {
    if (chunk.empty()) return;
    auto const added = bulk.add({chunk.size(), [&](std::size_t i) {
                                   auto job = model;
                                   job.payload = &chunk[i];
                                   return job;
                                 }});
    for (auto const& outcome : added) ids.add(outcome.id);
    chunk.clear();
    chunk_bytes = 0;
    progress.show([&] {
      auto const size = Input::size();
      auto const done = size > 0 ? bar(static_cast<double>(input.bytes_read()) / static_cast<double>(size)) + "  " : "";
      return done + count_of(ids.count(), "job");
    });
  };

  std::string line;
  for (std::int64_t number = 1; input.line(line, longest); ++number) {
    auto payload = payload_of(flags, line);
    try {
      check_length(line, longest);
      core::check_payload(payload, longest);
    } catch (InvalidArgument const& error) {
      progress.clear();
      throw InvalidArgument(
          fmt::format("line {}: {}", number, error.what()),
          {.hint = std::string("Nothing was enqueued.") + (flags.raw ? "" : " Any bytes go with --raw.")});
    }
    chunk_bytes += line.size();
    chunk.push_back(std::move(payload));
    if (chunk.size() == kChunkJobs || chunk_bytes >= kChunkBytes) flush();
  }
  flush();
  bulk.commit();
  progress.clear();
  if (flags.json || ::isatty(STDOUT_FILENO) == 0) {
    ids.print_all(flags.json);
  } else {
    print(fmt::format("{} enqueued, ids {}\n", count_of(ids.count(), "job"), ids.summary()));
  }
  return node::ExitStatus::done;
}

}  // namespace

void add_enqueue_command(CLI::App& app, Context& context) {
  auto const flags = std::make_shared<Flags>();
  auto& command = add_command(
      app, "enqueue", "Put one job in, or one a line of standard input; prints ids",
      {"posthouse enqueue send_mail '{\"to\": 42}' --delay 30s", "posthouse enqueue resize --raw - < image.png",
       "posthouse enqueue remind '{\"to\": 42}' --expires-in 1h --timeout 30s",
       "posthouse enqueue sync_account '{\"id\": 7}' --key account:7",
       "posthouse enqueue publish --depends-on 41 --depends-on 42",
       "posthouse enqueue sync '{\"account\": 7}' --dedupe-key account:7",
       "posthouse enqueue reindex '{\"page\": 7}' --dedupe-key page:7 --on-duplicate reschedule --delay 30s",
       "posthouse enqueue index --lines --queue bulk < payloads.jsonl > ids.txt"});
  command.add_option("KIND", flags->kind, "name of the handler")->required();
  node::add_text(command, "PAYLOAD", flags->payload, "JSON, or - to read it from standard input", "");
  command.add_option("--queue", flags->queue, "queue (default: default)")->type_name("NAME");
  command.add_option("--priority", flags->priority, "higher runs first (default: 0)")->type_name("N");
  node::add_text(command, "--delay", flags->delay, "not before that long from now: 250ms, 30s, 5m, 1h, 2d", "TIME");
  node::add_text(command, "--run-at", flags->run_at, "not before then, as 2030-01-31T12:00:00Z", "TIME");
  command.add_option("--header", flags->headers, "free metadata; may be repeated")
      ->type_name("NAME=VALUE")
      ->take_all()
      ->allow_extra_args(false);
  command.add_option("--max-attempts", flags->max_attempts, "1 to 32767 (default: the kind's own)")->type_name("N");
  node::add_text(command, "--expires-in", flags->expires_in,
                 "when it has not been started so long from now, it ends as expired", "TIME");
  node::add_text(command, "--expires-at", flags->expires_at, "the same at a time, as 2030-01-31T12:00:00Z", "TIME");
  node::add_text(command, "--timeout", flags->timeout,
                 "an attempt is asked to stop after so long (default: the kind's own)", "TIME");
  node::add_text(command, "--key", flags->key, "jobs of the kind with the same key run one after another, in order",
                 "KEY");
  command.add_option("--depends-on", flags->depends_on, "not before this job has succeeded; may be repeated")
      ->type_name("ID")
      ->take_all()
      ->allow_extra_args(false);
  command.add_flag("--any-end", flags->any_end, "with --depends-on: whatever way the others have ended");
  node::add_text(command, "--dedupe-key", flags->dedupe_key,
                 "of its kind: while a job holds it, nothing is enqueued and that job's id is printed", "KEY");
  node::add_text(
      command, "--on-duplicate", flags->on_duplicate,
      "skip (default), error, replace (that job takes this payload unless it has started) or reschedule (the "
      "same with --delay or --run-at)",
      "WHAT");
  node::add_text(command, "--dedupe-scope", flags->dedupe_scope,
                 "the key is held while the job is unfinished (default), or until_claimed", "SCOPE");
  node::add_text(command, "--dedupe-window", flags->dedupe_window, "the key is held at least that long", "TIME");
  node::add_text(command, "--token", flags->token, "a UUID; the same command again enqueues nothing new", "UUID");
  command.add_flag("--raw", flags->raw, "the payload is bytes, not JSON");
  command.add_flag("--lines", flags->lines, "one payload a line of standard input, all or none");
  command.add_flag("--json", flags->json, "print an array of objects");
  on_run(command, context,
         [&context, flags] { return flags->lines ? enqueue_lines(context, *flags) : enqueue_one(context, *flags); });
}

}  // namespace posthouse::cli
