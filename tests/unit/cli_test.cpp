// SPDX-License-Identifier: Apache-2.0
// What commands print, and why a job does not run, in words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "cli/demo_config.hpp"
#include "cli/explain.hpp"
#include "cli/print.hpp"

namespace posthouse::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(PrintTest, Numbers) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1000), "1,000");
  EXPECT_EQ(with_commas(-1234567), "-1,234,567");
  EXPECT_EQ(with_commas(-999), "-999");
  EXPECT_EQ(count_of(1, "job"), "1 job");
  EXPECT_EQ(count_of(2000, "job"), "2,000 jobs");
}

TEST(PrintTest, TableAlignsAndNeutralises) {
  Table table({"NAME", ">N"});
  table.add({"é", "1"});
  table.add({"a\x1b[31m\n", "1000"});
  table.add({"short"});
  EXPECT_EQ(table.text(false),
            "NAME              N\n"
            "é                 1\n"
            "a\\x1b[31m\\x0a  1000\n"
            "short\n");
  EXPECT_THAT(table.text(true), HasSubstr("\x1b[1m"));
}

TEST(PrintTest, TableShortensLongCells) {
  Table table({"X"});
  table.add({std::string(500, 'x')});
  EXPECT_LT(table.text(false).size(), 100U);
  EXPECT_THAT(table.text(false), HasSubstr("…"));
}

TEST(PrintTest, Json) {
  auto const object = JsonObject()
                          .id("id", 9223372036854775807)
                          .text("name", "a\"b\n\xff")
                          .text("none", std::optional<std::string>())
                          .number("n", -1)
                          .raw("payload", "{\"x\": 1e400}")
                          .str();
  EXPECT_EQ(object,
            "{\"id\": \"9223372036854775807\", \"name\": \"a\\\"b\\u000a\uFFFD\", \"none\": null, \"n\": -1, "
            "\"payload\": {\"x\": 1e400}}");
  EXPECT_EQ(json_array({}), "[]\n");
  EXPECT_EQ(json_array({"1", "2"}), "[\n  1,\n  2\n]\n");
  EXPECT_EQ(hex(std::string("\0\xff", 2)), "\\x00ff");
}

TEST(PrintTest, Bar) {
  EXPECT_EQ(bar(0, 4), "[    ]   0 %");
  EXPECT_EQ(bar(0.5, 4), "[==  ]  50 %");
  EXPECT_EQ(bar(7, 4), "[====] 100 %");
}

JobInfo job(std::string state) {
  JobInfo info;
  info.id = 7;
  info.kind = "mail";
  info.queue = "out";
  info.state = std::move(state);
  info.enqueued_at = "2020-01-01T00:00:00.000000Z";
  return info;
}

store::WorkerInfo worker(std::string queues, std::string kinds, int free) {
  store::WorkerInfo info;
  info.id = 3;
  info.name = "host:1";
  info.queues = std::move(queues);
  info.kinds = std::move(kinds);
  info.free = free;
  return info;
}

TEST(ExplainTest, AvailableJobs) {
  auto const said = [](std::vector<store::WorkerInfo> workers) {
    auto const sentences = explain(job("available"), {.workers = std::move(workers)});
    EXPECT_EQ(sentences.size(), 2U);
    return sentences.at(0);
  };
  EXPECT_THAT(said({}), HasSubstr("No worker is alive"));
  auto ended = worker("", "mail", 1);
  ended.ended_at = "2020-01-01T00:00:00Z";
  EXPECT_THAT(said({ended}), HasSubstr("No worker is alive"));
  auto silent = worker("", "mail", 1);
  silent.lease_ms = 1000;
  silent.silent_ms = 2000;
  EXPECT_THAT(said({silent}), HasSubstr("No worker is alive"));
  EXPECT_THAT(said({worker("", "mails,other", 1)}), HasSubstr("has a handler"));
  EXPECT_THAT(said({worker("in,outer", "mail", 1)}), HasSubstr("the queue out"));
  EXPECT_THAT(said({worker("in,out", "a,mail", 0)}), HasSubstr("busy"));
  EXPECT_THAT(said({worker("", "mail", 1)}), HasSubstr("waits for its turn"));
}

TEST(ExplainTest, PausedAndBehindOthers) {
  Around around{.workers = {worker("", "mail", 1)}, .queues = {{.queue = "out", .paused = true}}, .ahead = 1};
  EXPECT_THAT(explain(job("available"), around), ElementsAre(HasSubstr("The queue out is paused"),
                                                             HasSubstr("1 job of its queue, kind and priority goes")));
  around.queues = {{.queue = "in", .paused = true}};
  around.kinds = {{.kind = "mail", .paused = true}};
  around.ahead = most_ahead;
  EXPECT_THAT(explain(job("available"), around),
              ElementsAre(HasSubstr("The kind mail is paused"), HasSubstr("at least 1,000 jobs")));
  around.kinds = {{.kind = "mail", .paused = false}};
  around.ahead = 0;
  EXPECT_THAT(explain(job("available"), around), ElementsAre(HasSubstr("its turn"), HasSubstr("it is the next one")));
}

TEST(ExplainTest, OtherStates) {
  auto scheduled = job("scheduled");
  scheduled.run_at = "2200-01-01T00:00:00Z";
  EXPECT_THAT(explain(scheduled, {}), ElementsAre(HasSubstr("in ")));
  scheduled.run_at = "2020-01-01T00:00:00Z";
  EXPECT_THAT(explain(scheduled, {}), ElementsAre(HasSubstr("now due")));
  auto retryable = job("retryable");
  retryable.attempt = 2;
  retryable.max_attempts = 5;
  retryable.run_at = "2200-01-01T00:00:00Z";
  retryable.last_error = "no route";
  EXPECT_THAT(explain(retryable, {}), ElementsAre(HasSubstr("Attempt 2 of 5 failed"), HasSubstr("no route")));
  auto running = job("running");
  running.worker = 3;
  running.started_at = "2020-01-01T00:00:00Z";
  EXPECT_THAT(explain(running, {.workers = {worker("", "mail", 0)}}),
              ElementsAre(AllOf(HasSubstr("worker 3 (host:1"), HasSubstr("since "))));
  EXPECT_THAT(explain(job("failed"), {}), ElementsAre(HasSubstr("posthouse jobs retry 7")));
  EXPECT_THAT(explain(job("cancelled"), {}), ElementsAre(HasSubstr("posthouse jobs retry 7")));
  EXPECT_THAT(explain(job("succeeded"), {}), IsEmpty());
}

TEST(ExplainTest, StateOfAWorker) {
  auto info = worker("", "mail", 1);
  info.lease_ms = 30'000;
  info.silent_ms = 20'000;
  EXPECT_EQ(worker_state(info), "alive");
  info.silent_ms = 20'001;
  EXPECT_EQ(worker_state(info), "late");
  info.silent_ms = 30'001;
  EXPECT_EQ(worker_state(info), "lost");
  info.ended_at = "2020-01-01T00:00:00Z";
  info.end_reason = "lease lapsed";
  EXPECT_EQ(worker_state(info), "lost");
  info.end_reason = "stopped";
  EXPECT_EQ(worker_state(info), "ended");
}

TEST(DemoTest, ExampleFileIsTheDemosOwn) {
  std::ifstream file(POSTHOUSE_SOURCE_DIR "/examples/demo.yaml");
  std::string const text((std::istreambuf_iterator<char>(file)), {});
  EXPECT_EQ(text, demo_config);
}

}  // namespace
}  // namespace posthouse::cli
