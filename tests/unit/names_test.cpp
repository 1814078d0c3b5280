// SPDX-License-Identifier: Apache-2.0
#include "core/names.hpp"

#include <gtest/gtest.h>

#include <posthouse/error.hpp>
#include <string>

#include "core/refuse.hpp"

namespace posthouse::core {
namespace {

template <class F>
std::string message(F call) {
  try {
    call();
  } catch (InvalidArgument const& error) {
    EXPECT_FALSE(error.hint().empty());
    return error.what();
  }
  return "accepted";
}

TEST(Names, AcceptsTheWholeAlphabet) {
  for (std::string const& name : {std::string("a"), std::string("0"), std::string("send_welcome"),
                                  std::string("A.b:c/d-e_9"), std::string(100, 'x')}) {
    EXPECT_NO_THROW(check_kind(name)) << name;
  }
}

TEST(Names, RefusesTheRest) {
  for (std::string const& name :
       {std::string(), std::string("_a"), std::string("-a"), std::string(".a"), std::string(":a"), std::string("/a"),
        std::string("a b"), std::string("a\n"), std::string("ä"), std::string("a\0b", 3), std::string("a'"),
        std::string("a\""), std::string("a,b"), std::string(101, 'x')}) {
    EXPECT_THROW(check_kind(name), InvalidArgument) << name;
  }
}

TEST(Names, ErrorNamesArgumentValueAndWhatIsAllowed) {
  EXPECT_EQ(message([] { check_kind("a\x1b"); }),
            "kind is \"a\\x1b\"; allowed: 1 to 100 characters of A-Z a-z 0-9 _ . : / -, the first a letter or digit");
  EXPECT_TRUE(message([] { check_queue(""); }).starts_with("queue is \"\"; allowed: "));
  EXPECT_EQ(message([] {
              check_kind("k");
              check_queue("q");
            }),
            "accepted");
}

TEST(Names, LongValuesAreShortened) {
  auto const text = message([] { check_kind(std::string(100'000, 'x')); });
  EXPECT_LT(text.size(), 300U);
  EXPECT_NE(text.find("(100000 bytes)"), std::string::npos);
}

TEST(SchemaName, UpTo48BytesOfAnyText) {
  for (std::string const& name : {std::string("posthouse"), std::string("we\"ird; drop--"), std::string("äöü"),
                                  std::string(48, 'x'), std::string(24, 'x') + std::string("ääääääääääää")}) {
    EXPECT_EQ(message([&] { check_schema(name); }), "accepted") << name;
  }
  for (std::string const& name :
       {std::string(), std::string(49, 'x'), std::string("a\0b", 3), std::string("\xff"), std::string("pg_jobs")}) {
    EXPECT_TRUE(message([&] { check_schema(name); }).starts_with("schema is ")) << name;
  }
}

TEST(DedupeKey, UpTo512BytesOfAnyText) {
  for (std::string const& key : {std::string("a"), std::string("user:42 / \"ä\"\n"), std::string(512, 'x')}) {
    EXPECT_EQ(message([&] { check_dedupe_key(key); }), "accepted") << key;
  }
  for (std::string const& key : {std::string(), std::string(513, 'x'), std::string("a\0b", 3), std::string("\xff")}) {
    EXPECT_TRUE(message([&] { check_dedupe_key(key); }).starts_with("dedupe_key is ")) << key;
  }
}

TEST(Token, IsAUuid) {
  for (std::string const token : {"0190b3a4-5c6d-4e7f-8a9b-0c1d2e3f4a5b", "0190B3A4-5C6D-4E7F-8A9B-0C1D2E3F4A5B"}) {
    EXPECT_EQ(message([&] { check_token(token); }), "accepted") << token;
  }
  for (std::string const token : {"", "0190b3a45c6d4e7f8a9b0c1d2e3f4a5b", "0190b3a4-5c6d-4e7f-8a9b-0c1d2e3f4a5",
                                  "0190b3a4-5c6d-4e7f-8a9b-0c1d2e3f4a5g", "0190b3a405c6d-4e7f-8a9b-0c1d2e3f4a5b"}) {
    EXPECT_TRUE(message([&] { check_token(token); }).starts_with("token is ")) << token;
  }
}

TEST(Range, LimitsAreAllowed) {
  EXPECT_NO_THROW(check_range("n", 1, 1, 5));
  EXPECT_NO_THROW(check_range("n", 5, 1, 5));
  EXPECT_EQ(message([] { check_range("pool_size", 0, 1, 1000); }), "pool_size is 0; allowed: 1 to 1000");
  EXPECT_EQ(message([] { check_range("connect_timeout", 600001, 100, 600000, "ms"); }),
            "connect_timeout is 600001 ms; allowed: 100 to 600000 ms");
}

}  // namespace
}  // namespace posthouse::core
