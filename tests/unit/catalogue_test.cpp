// SPDX-License-Identifier: Apache-2.0
// Differences between two descriptions of a schema, and the migrations that the program carries.
#include "store/catalogue.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/migration_sql.hpp"

namespace posthouse::store {
namespace {

using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

TEST(CatalogueTest, EqualDescriptionsHaveNoDifference) {
  Description const d{{"table t", {{"definition", "x"}}}};
  EXPECT_THAT(differences(d, d), IsEmpty());
  EXPECT_THAT(differences({}, {}), IsEmpty());
}

TEST(CatalogueTest, EachDifferenceIsASentence) {
  Description const expected{{"table gone", {{"definition", ""}}},
                             {"column gone.a", {{"definition", "int"}}},
                             {"table kept", {{"definition", ""}}},
                             {"column kept.a", {{"definition", "int"}}},
                             {"function f()", {{"definition", "x"}, {"body", "one"}}}};
  Description const found{{"table kept", {{"definition", ""}, {"owner", "other"}, {"rights of PUBLIC", "SELECT"}}},
                          {"column kept.a", {{"definition", "text"}}},
                          {"table more", {{"definition", ""}}},
                          {"column more.b", {{"definition", "int"}}},
                          {"function f()", {{"definition", "x"}, {"body", "two"}}}};
  EXPECT_THAT(sentences(differences(expected, found)),
              UnorderedElementsAre("table gone is missing", "table more is not part of this version",
                                   "column kept.a has the definition \"text\" instead of \"int\"",
                                   "function f() has a changed body",
                                   "table kept belongs to role \"other\", not to the owner of the schema",
                                   "table kept grants SELECT to PUBLIC"));
}

TEST(CatalogueTest, TextLeavesBodiesOut) {
  EXPECT_EQ(to_text({{"function f()", {{"definition", "returns int"}, {"body", "secret"}}},
                     {"table t", {{"definition", ""}}}}),
            "function f() returns int\ntable t\n");
}

TEST(MigrationSqlTest, MigrationsAreNumberedFromOneWithoutGaps) {
  int expected = 0;
  for (auto const& migration : known_migrations()) {
    EXPECT_EQ(migration.version, ++expected);
    EXPECT_EQ(migration.checksum.size(), 64U);
  }
  EXPECT_GE(expected, 1);
  EXPECT_LE(breaking_version(), known_version());
}

}  // namespace
}  // namespace posthouse::store
