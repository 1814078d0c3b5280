// SPDX-License-Identifier: Apache-2.0
// One test for each row of the table of errors.
#include "core/sqlstate.hpp"

#include <gtest/gtest.h>

#include <initializer_list>

namespace posthouse::core {

void PrintTo(Action action, std::ostream* out) { *out << to_string(action); }

namespace {

void expect(Action action, std::initializer_list<std::string_view> states) {
  for (auto const state : states) EXPECT_EQ(classify(state, false), action) << state;
}

TEST(Sqlstate, Retry) { expect(Action::retry, {"40001", "40P01", "55P03", "57014", "25P02"}); }

TEST(Sqlstate, Reconnect) {
  expect(Action::reconnect, {"08000", "08003", "08006", "08001", "08004", "08007", "08P01", "57P01", "57P02", "57P03",
                             "57P05", "25P03", "26000", "42P05"});
}

TEST(Sqlstate, BrokenConnectionComesBeforeAnyState) {
  for (std::string_view const state : {"", "40001", "25006", "53300", "53100", "23505", "XX001", "00000"}) {
    EXPECT_EQ(classify(state, true), Action::reconnect) << state;
  }
}

TEST(Sqlstate, WrongServer) { expect(Action::wrong_server, {"25006"}); }

TEST(Sqlstate, Overloaded) {
  expect(Action::overloaded, {"53300", "53200", "53400"});
  EXPECT_EQ(classify("08P01", true, "FATAL: query_wait_timeout"), Action::overloaded);
  EXPECT_EQ(classify("08P01", false, "query_wait_timeout"), Action::overloaded);
  EXPECT_EQ(classify("08P01", true, "other"), Action::reconnect);
}

TEST(Sqlstate, Storage) { expect(Action::storage, {"53100", "58030", "54000"}); }

TEST(Sqlstate, Caller) {
  expect(Action::caller, {"22001", "22P02", "22021", "23505", "23503", "42501", "42601", "42P01", "42883"});
}

TEST(Sqlstate, Corruption) { expect(Action::corruption, {"XX001", "XX002"}); }

TEST(Sqlstate, Other) {
  expect(Action::other, {"", "00000", "0A000", "28P01", "3D000", "P0001", "XX000", "40003", "4", "2"});
}

TEST(Sqlstate, OutcomeUnknown) {
  EXPECT_TRUE(outcome_unknown("08007"));
  EXPECT_TRUE(outcome_unknown("40003"));
  EXPECT_FALSE(outcome_unknown("08006"));
  EXPECT_FALSE(outcome_unknown(""));
}

}  // namespace
}  // namespace posthouse::core
