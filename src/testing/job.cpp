// SPDX-License-Identifier: Apache-2.0
// Jobs without a server, and handlers called by hand.
#include <mutex>

#include <posthouse/testing.hpp>

#include "execute/run.hpp"

namespace posthouse::testing {

class TestJob::Record : public Job::Link {
 public:
  void progress(double fraction, std::string_view text) override {
    std::lock_guard const lock(mutex);
    progress_calls.push_back({fraction, std::string(text)});
  }
  void heartbeat() override {
    std::lock_guard const lock(mutex);
    ++heartbeats;
  }
  void complete(Job const& /*job*/, Transaction const& /*transaction*/, Payload const& /*result*/) override {
    std::lock_guard const lock(mutex);
    completed = true;
  }

  std::mutex mutex;
  std::vector<Progress> progress_calls;
  int heartbeats = 0;
  bool completed = false;
  std::stop_source stop;
};

namespace {

Job::Facts facts_of(JobOptions&& options) {
  Job::Facts facts;
  facts.id = options.id;
  facts.kind = std::move(options.kind);
  facts.queue = std::move(options.queue);
  facts.priority = options.priority;
  facts.attempt = options.attempt;
  facts.max_attempts = options.max_attempts;
  facts.payload = std::move(options.payload);
  facts.headers = std::move(options.headers);
  facts.depends_on = std::move(options.depends_on);
  if (options.timeout) facts.deadline = std::chrono::steady_clock::now() + *options.timeout;
  return facts;
}

}  // namespace

TestJob::TestJob(JobOptions options) : TestJob(std::move(options), std::make_shared<Record>()) {}

TestJob::TestJob(JobOptions options, std::shared_ptr<Record> record)
    : Job(facts_of(std::move(options)), record->stop.get_token(), record.get()), record_(std::move(record)) {}

void TestJob::request_stop() const { record_->stop.request_stop(); }

std::vector<TestJob::Progress> TestJob::progress_calls() const {
  std::lock_guard const lock(record_->mutex);
  return record_->progress_calls;
}

int TestJob::heartbeats() const {
  std::lock_guard const lock(record_->mutex);
  return record_->heartbeats;
}

bool TestJob::completed() const {
  std::lock_guard const lock(record_->mutex);
  return record_->completed;
}

TestJob job(JobOptions options) { return TestJob(std::move(options)); }

Outcome contain(Worker::Handler const& handler, Job const& job, OnDecodeError on_decode_error) {
  auto run = execute::run(handler, {}, job);
  if (run.decode_error && on_decode_error == OnDecodeError::fail) {
    if (auto const* failure = std::get_if<Failure>(&run.outcome)) return Discard{failure->message};
  }
  return std::move(run.outcome);
}

}  // namespace posthouse::testing
