// SPDX-License-Identifier: Apache-2.0
#include "core/redact.hpp"

#include <gtest/gtest.h>

namespace posthouse::core {
namespace {

TEST(Redact, ValuesGoAndNamesStay) {
  EXPECT_EQ(redact_sql("select f($1, 'secret', 42, -1.5e-3) from t2"), "select f($1, ?, ?, -?) from t2");
  EXPECT_EQ(redact_sql("insert into \"a'b\" values (E'it\\'s', 'it''s', x)"), "insert into \"a'b\" values (E?, ?, x)");
  EXPECT_EQ(redact_sql("do $$ secret $$; select $tag$ 'x' $$ $tag$, $2"), "do ?; select ?, $2");
  EXPECT_EQ(redact_sql("set statement_timeout = 29500"), "set statement_timeout = ?");
  EXPECT_EQ(redact_sql("select a$1, _x9, \xc3\xa4\x31"), "select a$1, _x9, \xc3\xa4\x31");
}

TEST(Redact, CommentsGoAndBlanksAreOne) {
  EXPECT_EQ(redact_sql("select 1 /* secret /* nested */ 7 */ ,\n\t 2 -- secret\n from t"), "select ? , ? from t");
  EXPECT_EQ(redact_sql("-- secret"), "");
}

TEST(Redact, WhatDoesNotEndShowsNothing) {
  EXPECT_EQ(redact_sql("select 'secret"), "select ?");
  EXPECT_EQ(redact_sql("select $x$ secret"), "select ?");
  EXPECT_EQ(redact_sql("select /* secret"), "select");
  EXPECT_EQ(redact_sql("select E'a\\"), "select E?");
  EXPECT_EQ(redact_sql("$"), "$");
}

TEST(Redact, LongStatementsAreCut) {
  auto const text = redact_sql(std::string(5000, 'x'), 10);
  EXPECT_EQ(text, "xxxxxxxxxx…");
}

}  // namespace
}  // namespace posthouse::core
