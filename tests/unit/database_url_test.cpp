// SPDX-License-Identifier: Apache-2.0
#include "core/database_url.hpp"

#include <gtest/gtest.h>

#include <posthouse/error.hpp>

namespace posthouse::core {
namespace {

TEST(DatabaseUrl, EveryPrefixBecomesPostgresql) {
  for (std::string const scheme :
       {"postgresql", "postgres", "postgresql+psycopg", "postgresql+psycopg2", "postgresql+asyncpg", "PostgreSQL"}) {
    EXPECT_EQ(normalise_database_url(scheme + "://u:p@h:5432/db?sslmode=require"),
              "postgresql://u:p@h:5432/db?sslmode=require");
  }
}

TEST(DatabaseUrl, KeyValueTextStays) {
  EXPECT_EQ(normalise_database_url("host=/tmp/pg port=5499 dbname=x"), "host=/tmp/pg port=5499 dbname=x");
  EXPECT_EQ(normalise_database_url("host=h password='a://b'"), "host=h password='a://b'");
}

TEST(DatabaseUrl, SpaceAroundIsDropped) {
  EXPECT_EQ(normalise_database_url(" postgres:///db\r\n"), "postgresql:///db");
  EXPECT_EQ(normalise_database_url(""), "");
  EXPECT_EQ(normalise_database_url(" \n"), "");
}

TEST(DatabaseUrl, OthersAreRefusedWithoutTheirPassword) {
  for (std::string const text : {"mysql://u:secret@h/db", "postgresqlx://u:secret@h", "sqlite:///u:secret@x",
                                 "u:secret@h/db", "http+postgresql://u:secret@h", "+postgres://u:secret@h"}) {
    try {
      normalise_database_url(text);
      FAIL() << text;
    } catch (InvalidArgument const& error) {
      std::string const what = error.what();
      EXPECT_TRUE(what.starts_with("database_url is ")) << what;
      EXPECT_EQ(what.find("secret"), std::string::npos) << what;
    }
  }
  EXPECT_THROW(normalise_database_url("mydb"), InvalidArgument);
  EXPECT_THROW(normalise_database_url(std::string("postgres://h/d\0b", 16)), InvalidArgument);
}

TEST(RedactUrl, HidesThePassword) {
  EXPECT_EQ(redact_database_url("postgresql://u:secret@h:5432/db"), "postgresql://u:***@h:5432/db");
  EXPECT_EQ(redact_database_url("postgres://u:a@b/c?d:secret@h/db"), "postgres://u:***@h/db");
  EXPECT_EQ(redact_database_url("postgres://:secret@h"), "postgres://:***@h");
  EXPECT_EQ(redact_database_url("postgres://u:secret@h1:1,h2:2/db"), "postgres://u:***@h1:1,h2:2/db");
  EXPECT_EQ(redact_database_url("postgres://h/db?user=u&password=secret&x=1"),
            "postgres://h/db?user=u&password=***&x=1");
  EXPECT_EQ(redact_database_url("postgres://h/db?sslpassword=secret"), "postgres://h/db?sslpassword=***");
}

TEST(RedactUrl, LeavesTheRest) {
  for (std::string_view const url :
       {"", "postgresql://h/db", "postgresql://u@h:5432/db", "postgresql:///db?host=/tmp",
        "postgresql://h:5432/db?application_name=x", "host=h dbname=d", "user = u  host=h"}) {
    EXPECT_EQ(redact_database_url(url), url);
  }
}

TEST(RedactPairs, HidesThePasswordAsLibpqReadsIt) {
  EXPECT_EQ(redact_database_url("host=h password=secret dbname=d"), "host=h password=*** dbname=d");
  EXPECT_EQ(redact_database_url("password = 'se cr\\'et' host=h"), "password = *** host=h");
  EXPECT_EQ(redact_database_url("password=se\\ cret host=h"), "password=*** host=h");
  EXPECT_EQ(redact_database_url("host=h password='unfinished secret"), "host=h password=***");
  EXPECT_EQ(redact_database_url("host=h password=secret\\"), "host=h password=***");
  EXPECT_EQ(redact_database_url("sslpassword=secret password=secret"), "sslpassword=*** password=***");
  EXPECT_EQ(redact_database_url("password="), "password=***");
  EXPECT_EQ(redact_database_url("user=password host=h"), "user=password host=h");
}

TEST(RedactPairs, HidesThePasswordOfAUrlInside) {
  EXPECT_EQ(redact_database_url("DATABASE_URL=postgres://u:secret@h/db"), "DATABASE_URL=postgres://u:***@h/db");
  EXPECT_EQ(redact_database_url("u:secret@h/db"), "u:***@h/db");
}

}  // namespace
}  // namespace posthouse::core
