// SPDX-License-Identifier: Apache-2.0
#include "core/job_options.hpp"

#include <gtest/gtest.h>

#include <posthouse/error.hpp>

namespace posthouse::core {
namespace {

TEST(JobOptions, NothingIsDefault) {
  EXPECT_EQ(parse_job_options(""), JobOptions{});
  EXPECT_EQ(parse_job_options("{}"), JobOptions{});
  EXPECT_EQ(parse_job_options("{ }"), JobOptions{});
  EXPECT_EQ(write_job_options({}), "");
}

TEST(JobOptions, ReadsEachKey) {
  auto const options = parse_job_options(
      R"({"max_attempts": 3, "timeout_ms": 86400000000, "crashes": 2, "enqueued_at": "2025-11-21 07:58:00+00"})");
  EXPECT_EQ(options.max_attempts, 3);
  EXPECT_EQ(options.timeout, std::chrono::hours(24000));
  EXPECT_EQ(options.crashes, 2);
  EXPECT_EQ(options.enqueued_at, "2025-11-21 07:58:00+00");
}

TEST(JobOptions, WritesWhatItReads) {
  JobOptions options;
  options.max_attempts = 32767;
  EXPECT_EQ(write_job_options(options), R"({"max_attempts":32767})");
  options.timeout = std::chrono::milliseconds(0);
  options.crashes = 1;
  options.enqueued_at = "then";
  EXPECT_EQ(parse_job_options(write_job_options(options)), options);
}

TEST(JobOptions, UnknownKeysAndNullsAreLeftAlone) {
  EXPECT_EQ(parse_job_options(R"({"later": [1], "max_attempts": null, "enqueued_at": null})"), JobOptions{});
}

TEST(JobOptions, WrongTypesAreRefused) {
  for (std::string_view const text :
       {"[]", "null", "x", R"({"max_attempts": "3"})", R"({"max_attempts": 1.5})", R"({"max_attempts": 99999999999})",
        R"({"crashes": -1})", R"({"enqueued_at": 5})"}) {
    EXPECT_THROW(parse_job_options(text), InvalidArgument) << text;
  }
}

}  // namespace
}  // namespace posthouse::core
