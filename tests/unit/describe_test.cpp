// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <list>
#include <map>
#include <posthouse/describe.hpp>
#include <random>
#include <unordered_map>
#include <vector>

namespace app {

enum class Colour { red, green };
BOOST_DESCRIBE_ENUM(Colour, red, green)

struct Base {
  int base = 1;
};
BOOST_DESCRIBE_STRUCT(Base, (), (base))

struct Item {
  std::string name = "none";
  std::optional<int> count = 7;
};
BOOST_DESCRIBE_STRUCT(Item, (), (name, count))

struct Everything : Base {
  bool flag = false;
  std::int64_t big = 0;
  std::uint64_t huge = 0;
  std::int8_t tiny = 0;
  unsigned short small = 0;
  double real = 0;
  float single = 0;
  std::string text{};
  Colour colour = Colour::red;
  Item item{};
  std::vector<Item> items{};
  std::vector<bool> flags{};
  std::list<int> list{};
  std::map<std::string, Item> by_name{};
  std::unordered_map<std::string, std::vector<int>> lists{};
  std::optional<Item> maybe{};
  boost::json::value free{};
};
BOOST_DESCRIBE_STRUCT(Everything, (Base),
                      (flag, big, huge, tiny, small, real, single, text, colour, item, items, flags, list, by_name,
                       lists, maybe, free))

struct Strict {
  int a = 0;
  Item loose{};
};
BOOST_DESCRIBE_STRUCT(Strict, (), (a, loose))

struct Empty {};
BOOST_DESCRIBE_STRUCT(Empty, (), ())

class Private {
 public:
  [[nodiscard]] int value() const { return value_; }

 private:
  int value_ = 3;
  BOOST_DESCRIBE_CLASS(Private, (), (), (), (value_))
};

struct Node {
  int id = 0;
  std::vector<Node> children{};
};
BOOST_DESCRIBE_STRUCT(Node, (), (id, children))

}  // namespace app

template <>
inline constexpr bool posthouse::strict_json<app::Strict> = true;

namespace posthouse {
namespace {

template <class T>
T decode(std::string text) {
  return codec<T>::decode(json(std::move(text)));
}

template <class T>
std::string error(std::string text) {
  try {
    decode<T>(std::move(text));
  } catch (DecodeError const& e) {
    EXPECT_TRUE(std::string(e.what()).starts_with(e.path() + ": "));
    return e.what();
  }
  return "decoded";
}

template <class T>
std::string encode(T const& value) {
  auto const payload = codec<T>::encode(value);
  EXPECT_TRUE(payload.is_json());
  return std::string(payload.data());
}

TEST(Describe, EverythingComesBack) {
  app::Everything in;
  in.base = -5;
  in.flag = true;
  in.big = std::numeric_limits<std::int64_t>::min();
  in.huge = std::numeric_limits<std::uint64_t>::max();
  in.tiny = -128;
  in.small = 65535;
  in.real = 0.1 + 0.2;
  in.single = 0.1F;
  in.text = "line\n\"quoted\" 世界";
  in.colour = app::Colour::green;
  in.item = {"x", std::nullopt};
  in.items = {{"a", 1}, {"b", 2}};
  in.flags = {true, false};
  in.list = {1, 2};
  in.by_name = {{"k e y", {"v", 9}}};
  in.lists = {{"one", {1}}};
  in.maybe = app::Item{"m", 1};
  in.free = {{"any", {1, nullptr}}};

  auto const out = decode<app::Everything>(encode(in));
  EXPECT_EQ(out.base, in.base);
  EXPECT_EQ(out.flag, in.flag);
  EXPECT_EQ(out.big, in.big);
  EXPECT_EQ(out.huge, in.huge);
  EXPECT_EQ(out.tiny, in.tiny);
  EXPECT_EQ(out.small, in.small);
  EXPECT_EQ(out.real, in.real);
  EXPECT_EQ(out.single, in.single);
  EXPECT_EQ(out.text, in.text);
  EXPECT_EQ(out.colour, in.colour);
  EXPECT_EQ(out.item.name, "x");
  EXPECT_EQ(out.item.count, std::nullopt);
  ASSERT_EQ(out.items.size(), 2U);
  EXPECT_EQ(out.items[1].name, "b");
  EXPECT_EQ(out.flags, in.flags);
  EXPECT_EQ(out.list, in.list);
  EXPECT_EQ(out.by_name.at("k e y").count, 9);
  EXPECT_EQ(out.lists, in.lists);
  EXPECT_EQ(out.maybe->name, "m");
  EXPECT_EQ(out.free, in.free);
}

TEST(Describe, WritesMembersInOrderBasesFirst) {
  EXPECT_EQ(encode(app::Item{"n", std::nullopt}), R"({"name":"n","count":null})");
  EXPECT_EQ(encode(app::Empty{}), "{}");
  EXPECT_EQ(encode(app::Private{}), R"({"value_":3})");
  EXPECT_TRUE(encode(app::Everything{}).starts_with(R"({"base":1,"flag":false,)"));
}

TEST(Describe, MissingMembersKeepTheirDefaultsUnknownAreIgnored) {
  auto const item = decode<app::Item>(R"({"other": [1, 2]})");
  EXPECT_EQ(item.name, "none");
  EXPECT_EQ(item.count, 7);
  EXPECT_EQ(decode<app::Item>(R"({"count": null})").count, std::nullopt);
  EXPECT_EQ(codec<app::Item>::decode({}).name, "none");
  EXPECT_EQ(decode<app::Private>(R"({"value_": 4})").value(), 4);
}

TEST(Describe, StrictRefusesUnknownMembersOfThatStructAlone) {
  EXPECT_EQ(error<app::Strict>(R"({"a": 1, "b": 2})"), "$.b: expected no such member, found the number 2");
  EXPECT_EQ(error<app::Strict>(R"({"a": 1, "loose": {"other": 1}})"), "decoded");
  EXPECT_EQ(error<app::Strict>("{}"), "decoded");
}

TEST(Describe, ErrorsNamePathAndType) {
  using app::Everything;
  EXPECT_EQ(error<Everything>(R"({"items": [{}, {"count": "x"}]})"),
            "$.items[1].count: expected an integer from -2147483648 to 2147483647, found a string");
  EXPECT_EQ(error<Everything>(R"({"by_name": {"k \"y": []}})"),
            "$.by_name[\"k \\\"y\"]: expected an object, found an array");
  EXPECT_EQ(error<Everything>(R"({"lists": {"one": [1, null]}})"),
            "$.lists.one[1]: expected an integer from -2147483648 to 2147483647, found null");
  EXPECT_EQ(error<Everything>(R"({"colour": "blue"})"), "$.colour: expected one of red, green, found a string");
  EXPECT_EQ(error<Everything>(R"({"colour": 1})"), "$.colour: expected one of red, green, found the number 1");
  EXPECT_EQ(error<Everything>(R"({"flag": 1})"), "$.flag: expected true or false, found the number 1");
  EXPECT_EQ(error<Everything>(R"({"text": {}})"), "$.text: expected a string, found an object");
  EXPECT_EQ(error<Everything>(R"({"real": true})"), "$.real: expected a number, found true");
  EXPECT_EQ(error<Everything>(R"({"list": {}})"), "$.list: expected an array, found an object");
  EXPECT_EQ(error<Everything>("[]"), "$: expected an object, found an array");
  EXPECT_EQ(error<Everything>("null"), "$: expected an object, found null");
}

TEST(Describe, TextThatIsNoJsonAndBytesAreDecodeErrors) {
  EXPECT_EQ(error<app::Item>("{\"name\": "), "$: expected JSON, found incomplete JSON at byte 10");
  EXPECT_EQ(error<app::Item>("{} {}"), "$: expected JSON, found extra data at byte 4");
  EXPECT_NE(error<app::Node>(std::string(200, '[')), "decoded");
  EXPECT_THROW(codec<app::Item>::decode(bytes("{}")), DecodeError);
}

TEST(Describe, IntegersAreCheckedAgainstTheirRange) {
  using app::Everything;
  EXPECT_EQ(decode<Everything>(R"({"big": 9223372036854775807})").big, 9223372036854775807);
  EXPECT_EQ(decode<Everything>(R"({"big": 9007199254740993})").big, 9007199254740993);
  EXPECT_EQ(decode<Everything>(R"({"tiny": -128})").tiny, -128);
  EXPECT_EQ(decode<Everything>(R"({"small": 3.0})").small, 3);
  EXPECT_EQ(decode<Everything>(R"({"big": 1e3})").big, 1000);
  for (std::string const text :
       {R"({"big": 9223372036854775808})", R"({"big": 9007199254740993.0})", R"({"big": 1e30})", R"({"huge": -1})",
        R"({"huge": 18446744073709551616})", R"({"tiny": 128})", R"({"tiny": -129})", R"({"small": 65536})",
        R"({"small": 1.5})", R"({"small": "1"})", R"({"big": true})"}) {
    EXPECT_NE(error<Everything>(text), "decoded") << text;
  }
}

TEST(Describe, DoublesComeBackBitForBit) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20'000; ++i) {
    app::Everything in;
    in.real = std::ldexp(std::uniform_real_distribution<>(-1, 1)(random), static_cast<int>(random() % 600) - 300);
    ASSERT_EQ(decode<app::Everything>(encode(in)).real, in.real) << in.real;
  }
  EXPECT_NE(error<app::Everything>(R"({"real": 1e400})"), "decoded");
  EXPECT_NE(error<app::Everything>(R"({"single": 1e39})"), "decoded");
  EXPECT_EQ(decode<app::Everything>(R"({"real": 3})").real, 3.0);
}

TEST(Describe, WhatJsonCannotSayIsRefused) {
  app::Everything value;
  value.items.resize(2);
  value.real = std::numeric_limits<double>::quiet_NaN();
  try {
    codec<app::Everything>::encode(value);
    FAIL();
  } catch (InvalidArgument const& e) {
    EXPECT_TRUE(std::string(e.what()).starts_with("payload member $.real is infinite or not a number"));
  }
  value.real = 0;
  value.colour = static_cast<app::Colour>(9);
  EXPECT_THROW(codec<app::Everything>::encode(value), InvalidArgument);
}

TEST(Describe, RecursiveTypes) {
  app::Node const tree{1, {{2, {}}, {3, {{4, {}}}}}};
  EXPECT_EQ(encode(decode<app::Node>(encode(tree))), encode(tree));
}

}  // namespace
}  // namespace posthouse
