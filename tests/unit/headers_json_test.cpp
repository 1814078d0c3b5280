// SPDX-License-Identifier: Apache-2.0
#include "core/headers_json.hpp"

#include <gtest/gtest.h>

#include <posthouse/error.hpp>

namespace posthouse::core {
namespace {

using Headers = std::map<std::string, std::string>;

TEST(Headers, ComeBackAsTheyWere) {
  Headers const headers{
      {"trace", "abc"}, {"quote \"\\", "line\nbreak\x01"}, {"ü", "世界😀"}, {"empty", ""}, {"json", "{\"a\":1}"}};
  EXPECT_EQ(headers_from_json(headers_to_json(headers)), headers);
}

TEST(Headers, TextIsCompact) {
  EXPECT_EQ(headers_to_json({}), "{}");
  EXPECT_EQ(headers_to_json({{"a", "1"}, {"b", "x\"y"}}), R"({"a":"1","b":"x\"y"})");
}

TEST(Headers, EmptyTextIsEmpty) {
  EXPECT_TRUE(headers_from_json("").empty());
  EXPECT_TRUE(headers_from_json("{}").empty());
  EXPECT_TRUE(headers_from_json(" { } ").empty());
}

TEST(Headers, OtherValuesStayJsonTextWithAllDigits) {
  auto const headers = headers_from_json(
      R"({"n": 123456789012345678901234567890.10, "e": 1e400, "t": true, "z": null, "s": "x",
          "a": [1, "b\"c", [], {}, {"k": [null, false], "l": "é"}], "o": {"x": {"y": 1.0}, "z": ""}})");
  EXPECT_EQ(headers, (Headers{{"n", "123456789012345678901234567890.10"},
                              {"e", "1e400"},
                              {"t", "true"},
                              {"z", "null"},
                              {"s", "x"},
                              {"a", R"([1,"b\"c",[],{},{"k":[null,false],"l":"é"}])"},
                              {"o", R"({"x":{"y":1.0},"z":""})"}}));
}

TEST(Headers, AnythingButAnObjectIsRefused) {
  for (std::string_view const text : {"[]", "1", "\"x\"", "null", "true", "{", "{} {}", "{\"a\":1e}", "x"}) {
    EXPECT_THROW(headers_from_json(text), InvalidArgument) << text;
  }
}

TEST(Headers, BadOnesAreRefusedByName) {
  EXPECT_THROW(headers_to_json({{"", "x"}}), InvalidArgument);
  EXPECT_THROW(headers_to_json({{"\xff", "x"}}), InvalidArgument);
  try {
    headers_to_json({{"trace", std::string("a\0b", 3)}});
    FAIL();
  } catch (InvalidArgument const& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with("header \"trace\" has a NUL byte at byte 2"));
  }
}

TEST(Headers, SixteenKiBTogetherAsJsonbStoresThem) {
  EXPECT_NO_THROW(headers_to_json({{"k", std::string(max_headers_bytes - 17, 'x')}}));
  EXPECT_THROW(headers_to_json({{"k", std::string(max_headers_bytes - 16, 'x')}}), InvalidArgument);
  Headers many;
  for (int i = 0; i < 1000; ++i) many[std::to_string(1000 + i)] = "1234";  // 16 bytes each
  EXPECT_NO_THROW(headers_to_json(many));
  for (int i = 0; i < 24; ++i) many[std::to_string(3000 + i)] = "1234";
  EXPECT_THROW(headers_to_json(many), InvalidArgument);
}

}  // namespace
}  // namespace posthouse::core
