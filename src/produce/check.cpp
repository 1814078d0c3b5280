// SPDX-License-Identifier: Apache-2.0
// Everything that can be wrong with an enqueue, found before anything is sent.
#include "produce/check.hpp"

#include <chrono>

#include "core/backoff.hpp"
#include "core/headers_json.hpp"
#include "core/names.hpp"
#include "core/refuse.hpp"

namespace posthouse::produce {

store::NewJob checked(std::string_view kind, EnqueueOptions const& options, std::string& headers_json) {
  using std::chrono::system_clock;
  core::check_kind(kind);
  core::check_queue(options.queue);
  store::NewJob job;
  job.kind = kind;
  job.queue = options.queue;
  job.priority = options.priority;
  if (options.max_attempts) {
    core::check_range("max_attempts", *options.max_attempts, 1, 32767);
    job.max_attempts = options.max_attempts;
  }
  if (options.delay) {
    if (options.run_at) {
      core::refuse_because("delay", "given together with run_at", "one of the two", "leave one of them out");
    }
    core::check_range("delay", options.delay->count(), 0, core::max_delay_ms, "ms");
    job.delay = options.delay;
  }
  if (options.run_at) {
    // What a program computed from an empty or overflowed time shows itself here and not as a job that never runs.
    if (*options.run_at > system_clock::now() + std::chrono::hours(24 * 36'500)) {
      core::refuse_because("run_at", "more than 100 years ahead", "any time within 100 years", "check its unit");
    }
    job.run_at = options.run_at;
  }
  if (options.expires_at) {
    if (options.expires_in) {
      core::refuse_because("expires_in", "given together with expires_at", "one of the two", "leave one of them out");
    }
    if (*options.expires_at > system_clock::now() + std::chrono::hours(24 * 36'500)) {
      core::refuse_because("expires_at", "more than 100 years ahead", "any time within 100 years", "check its unit");
    }
    job.expires_at = options.expires_at;
  }
  if (options.expires_in) {
    core::check_range("expires_in", options.expires_in->count(), 1, core::max_delay_ms, "ms");
    job.expires_in = options.expires_in;
  }
  if (options.timeout) {
    core::check_range("timeout", options.timeout->count(), 1, core::max_delay_ms, "ms");
    job.timeout = options.timeout;
  }
  if (!options.key.empty()) {
    core::check_key(options.key);
    job.key = options.key;
  }
  if (!options.depends_on.empty() || !options.depends_on_elements.empty()) {
    core::check_range("depends_on",
                      static_cast<std::int64_t>(options.depends_on.size() + options.depends_on_elements.size()), 1,
                      1000, "jobs");
    job.depends_on = options.depends_on;
    job.depends_on_elements = options.depends_on_elements;
    job.depends_on_all_ok = options.depends_on_all_ok;
  }
  if (!options.dedupe_key.empty()) {
    core::check_dedupe_key(options.dedupe_key);
    job.dedupe_key = options.dedupe_key;
    job.on_duplicate = options.on_duplicate;
    if (options.on_duplicate == OnDuplicate::reschedule && !options.delay && !options.run_at) {
      core::refuse_because("on_duplicate", "reschedule without delay or run_at", "one of them beside it",
                           "say when the job shall run");
    }
    job.dedupe_scope = options.dedupe_scope;
    if (options.dedupe_window) {
      core::check_range("dedupe_window", options.dedupe_window->count(), 1, core::max_delay_ms, "ms");
      job.dedupe_window = options.dedupe_window;
    }
  } else if (options.on_duplicate != OnDuplicate::skip || options.dedupe_scope != DedupeScope::unfinished ||
             options.dedupe_window) {
    core::refuse_because("dedupe_key", "empty, and on_duplicate, dedupe_scope or dedupe_window is given",
                         "a key of 1 to 512 bytes beside them", "give the key, or leave them out");
  }
  if (!options.token.empty()) {
    core::check_token(options.token);
    job.token = options.token;
  }
  if (!options.headers.empty()) {
    headers_json = core::headers_to_json(options.headers);
    job.headers = headers_json;
  }
  return job;
}

void check_alone(store::NewJob const& job) {
  if (job.depends_on_elements.empty()) return;
  core::refuse_because("depends_on_elements", "given where there are no Requests", "enqueue_many with Requests",
                       "name the jobs in depends_on");
}

void check(ClientOptions const& options) {
  core::check_range("pool_size", options.pool_size, 1, 1000);
  core::check_range("pool_timeout", options.pool_timeout.count(), 1, std::int64_t{24} * 3600 * 1000, "ms");
  core::check_range("max_payload_bytes", static_cast<std::int64_t>(options.max_payload_bytes), 1, 64 * 1024 * 1024,
                    "bytes");
  core::check_range("resend_timeout", options.resend_timeout.count(), 100, 600'000, "ms");
  core::check_schema(options.database.schema);
}

}  // namespace posthouse::produce
