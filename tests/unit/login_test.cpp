// SPDX-License-Identifier: Apache-2.0
// The same database as another role: the place stays, the first role's proofs do not.
#include "pg/login.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <posthouse/error.hpp>

namespace posthouse::pg {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Login, KeepsThePlaceAndChangesTheRole) {
  auto const text = url_as("postgresql+psycopg://daemon:hush@db.example:5433/shop?sslmode=verify-full&passfile=/p",
                           {.user = "app", .password = "other"});
  EXPECT_THAT(text, HasSubstr("host='db.example'"));
  EXPECT_THAT(text, HasSubstr("port='5433'"));
  EXPECT_THAT(text, HasSubstr("dbname='shop'"));
  EXPECT_THAT(text, HasSubstr("sslmode='verify-full'"));
  EXPECT_THAT(text, HasSubstr("user='app'"));
  EXPECT_THAT(text, HasSubstr("password='other'"));
  EXPECT_THAT(text, Not(HasSubstr("daemon")));
  EXPECT_THAT(text, Not(HasSubstr("hush")));
  EXPECT_THAT(text, Not(HasSubstr("'/p'")));
}

TEST(Login, WithoutASecretNothingStandsInForIt) {
  auto const text = url_as("host=/run/pg user=daemon password=hush sslcert=/c sslkey=/k", {.user = "app"});
  EXPECT_THAT(text, HasSubstr("password=''"));
  EXPECT_THAT(text, HasSubstr("sslcert=''"));
  EXPECT_THAT(text, HasSubstr("sslkey=''"));
  EXPECT_THAT(text, Not(HasSubstr("hush")));
}

TEST(Login, QuotesWhatNeedsIt) {
  auto const text = url_as("dbname=x", {.user = "o'neil \\ co", .password = "a' host='evil"});
  EXPECT_THAT(text, HasSubstr(R"(user='o\'neil \\ co')"));
  EXPECT_THAT(text, HasSubstr(R"(password='a\' host=\'evil')"));
  // Read again, it is one user and no host.
  EXPECT_EQ(url_as(text, {.user = "o'neil \\ co", .password = "a' host='evil"}), text);
}

TEST(Login, RefusesAUrlThatIsNone) {
  EXPECT_THROW((void)url_as("postgresql://x:hush@[", {.user = "app"}), InvalidArgument);
}

}  // namespace
}  // namespace posthouse::pg
