// SPDX-License-Identifier: Apache-2.0
// JSON made by hand reads back as what went in.
#include "store/json_text.hpp"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <string>

namespace posthouse::store {
namespace {

TEST(JsonTextTest, EveryByteOfAsciiAndLongerTextsReadBack) {
  std::string text;
  for (char c = 1; c < 127; ++c) text += c;
  text += "\x7f ☃ 𝄞";
  std::string json;
  append_json_string(json, text);
  EXPECT_EQ(boost::json::parse(json).as_string(), text);
  std::string empty;
  append_json_string(empty, "");
  EXPECT_EQ(empty, "\"\"");
}

TEST(JsonTextTest, Base64IsThatOfTheRfc) {
  auto const base64 = [](std::string_view bytes) {
    std::string json;
    append_base64_string(json, bytes);
    return json;
  };
  EXPECT_EQ(base64(""), "\"\"");
  EXPECT_EQ(base64("f"), "\"Zg==\"");
  EXPECT_EQ(base64("fo"), "\"Zm8=\"");
  EXPECT_EQ(base64("foo"), "\"Zm9v\"");
  EXPECT_EQ(base64("foobar"), "\"Zm9vYmFy\"");
  EXPECT_EQ(base64(std::string_view("\0\xff\xfe", 3)), "\"AP/+\"");
}

TEST(JsonTextTest, ColumnsAreArraysAsPostgresWritesThem) {
  JsonColumns columns{"n", "t", "b", "none"};
  columns.add(0, std::int64_t{-7});
  columns.add(1, "plain");
  columns.end_row();
  columns.end_row();
  columns.add(0, std::int64_t{8});
  columns.add(1, "a\"b\\c\n{,}NULL");
  columns.add_base64(2, "foo");
  columns.end_row();
  columns.add(1, "");
  columns.end_row();
  auto const read = boost::json::parse(columns.object()).as_object();
  EXPECT_EQ(read.size(), 3U) << "one that is null throughout is left out";
  EXPECT_EQ(read.at("n").as_string(), "{-7,NULL,8,NULL}");
  EXPECT_EQ(read.at("t").as_string(), "{\"plain\",NULL,\"a\\\"b\\\\c\n{,}NULL\",\"\"}");
  EXPECT_EQ(read.at("b").as_string(), "{NULL,NULL,\"Zm9v\",NULL}");
  EXPECT_EQ(JsonColumns{"n"}.object(), "{}");
}

}  // namespace
}  // namespace posthouse::store
