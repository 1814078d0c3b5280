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
}

TEST(JobOptions, ReadsEachKey) {
  auto const options = parse_job_options(
      R"({"max_attempts": 32767, "timeout_ms": 86400000000, "expires_in_ms": 0, "child_crashes": 2, "depends_on": [7, 9007199254740993]})");
  EXPECT_EQ(options.depends_on, (std::vector<std::int64_t>{7, 9007199254740993}));
  EXPECT_EQ(options.child_crashes, 2);
  EXPECT_EQ(options.max_attempts, 32767);
  EXPECT_EQ(options.timeout, std::chrono::hours(24000));
  EXPECT_EQ(options.expires_in, std::chrono::milliseconds(0));
}

TEST(JobOptions, UnknownKeysAndNullsAreLeftAlone) {
  EXPECT_EQ(parse_job_options(R"({"later": [1], "max_attempts": null, "crashes": 2})"), JobOptions{});
}

TEST(JobOptions, WrongTypesAreRefused) {
  for (std::string_view const text :
       {"[]", "null", "x", R"({"max_attempts": "3"})", R"({"max_attempts": 1.5})", R"({"max_attempts": 99999999999})",
        R"({"timeout_ms": -1})", R"({"expires_in_ms": "soon"})", R"({"timeout_ms": 9223372036854775807})",
        R"({"depends_on": 7})", R"({"depends_on": ["7"]})", R"({"depends_on": [1.5]})"}) {
    EXPECT_THROW(parse_job_options(text), InvalidArgument) << text;
  }
}

}  // namespace
}  // namespace posthouse::core
