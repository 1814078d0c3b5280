// SPDX-License-Identifier: Apache-2.0
// What libpq is given for a URL: defaults that the URL does not name, one target a host.
#include "pg/conninfo.hpp"

#include <gtest/gtest.h>

#include <map>
#include <posthouse/error.hpp>

namespace posthouse::pg {
namespace {

using namespace std::chrono_literals;

ConnectPlan plan(std::string const& url, DatabaseOptions options = {}) { return plan_connect(options, url); }

std::map<std::string, std::string> keywords(Target const& target) {
  return {target.keywords.begin(), target.keywords.end()};
}

TEST(ConninfoTest, DefaultsGiveWayToWhatTheUrlSays) {
  auto const plain = keywords(plan("postgresql://u:p@h:5433/d").targets.at(0));
  EXPECT_EQ(plain.at("host"), "h");
  EXPECT_EQ(plain.at("port"), "5433");
  EXPECT_EQ(plain.at("user"), "u");
  EXPECT_EQ(plain.at("password"), "p");
  EXPECT_EQ(plain.at("dbname"), "d");
  EXPECT_EQ(plain.at("client_encoding"), "UTF8");
  EXPECT_EQ(plain.at("application_name"), "posthouse");
  EXPECT_EQ(plain.at("keepalives_idle"), "30");
  EXPECT_EQ(plain.at("tcp_user_timeout"), "10000");
  auto const own = keywords(
      plan("postgresql+psycopg://h/d?application_name=mine&keepalives_idle=5&tcp_user_timeout=1&client_encoding=LATIN1")
          .targets.at(0));
  EXPECT_EQ(own.at("application_name"), "mine");
  EXPECT_EQ(own.at("keepalives_idle"), "5");
  EXPECT_EQ(own.at("tcp_user_timeout"), "1");
  EXPECT_EQ(own.at("client_encoding"), "UTF8") << "everything here speaks UTF-8";
  DatabaseOptions options;
  options.tcp_user_timeout = 0;
  EXPECT_EQ(keywords(plan("postgresql://h/d", options).targets.at(0)).at("tcp_user_timeout"), "0");
  options.tcp_user_timeout = -1;
  EXPECT_THROW(plan("postgresql://h/d", options), InvalidArgument);
}

TEST(ConninfoTest, ConnectTimeoutOfTheUrlWins) {
  EXPECT_EQ(plan("host=h").timeout, 5s);
  EXPECT_EQ(plan("host=h connect_timeout=2").timeout, 2s);
  EXPECT_EQ(plan("host=h connect_timeout=0").timeout, 5s) << "libpq's 0 is for ever, which we never wait";
}

TEST(ConninfoTest, AListOfHostsIsTakenApart) {
  auto const targets = plan("postgresql://a:1,b:2,c:3/d?target_session_attrs=read-write").targets;
  ASSERT_EQ(targets.size(), 3U);
  EXPECT_EQ(keywords(targets[1]).at("host"), "b");
  EXPECT_EQ(keywords(targets[1]).at("port"), "2");
  EXPECT_EQ(keywords(targets[1]).at("target_session_attrs"), "read-write");
  EXPECT_EQ(targets[2].place, "c port 3");
  auto const one_port = plan("host=a,b port=7").targets;
  ASSERT_EQ(one_port.size(), 2U);
  EXPECT_EQ(keywords(one_port[1]).at("port"), "7");
  EXPECT_THROW(plan("host=a,b,c port=1,2"), InvalidArgument);
  EXPECT_THROW(plan("host=a port=0"), InvalidArgument);
  EXPECT_THROW(plan("host=a port=x"), InvalidArgument);
}

TEST(ConninfoTest, OptionsAreChecked) {
  EXPECT_THROW(plan("host=h", {.schema = ""}), InvalidArgument);
  EXPECT_THROW(plan("host=h", {.connect_timeout = 99ms}), InvalidArgument);
  EXPECT_THROW(plan("host=h", {.statement_timeout = 2h}), InvalidArgument);
  EXPECT_THROW(plan("host=h", {.application_name = std::string("a\0b", 3)}), InvalidArgument);
}

}  // namespace
}  // namespace posthouse::pg
