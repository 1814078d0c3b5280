// SPDX-License-Identifier: Apache-2.0
// When a silent LISTEN connection has to notify itself, and when it is deaf.
#include "core/listen_proof.hpp"

#include <gtest/gtest.h>

namespace posthouse::core {
namespace {

using namespace std::chrono_literals;
using Step = ListenProof::Step;

TEST(ListenProofTest, AsksAfterHalfAMinuteOfSilence) {
  ListenProof proof;
  ListenProof::Time const start{1h};
  proof.begin(start, 0.0);
  EXPECT_EQ(proof.step(start), Step::none);
  EXPECT_EQ(proof.step(start + 29'999ms), Step::none);
  EXPECT_EQ(proof.step(start + 30s), Step::ask);
  EXPECT_EQ(proof.due(), start + 30s);
}

TEST(ListenProofTest, AnyNotificationIsProof) {
  ListenProof proof;
  ListenProof::Time const start{1h};
  proof.begin(start, 0.0);
  proof.heard(start + 20s);
  EXPECT_EQ(proof.step(start + 49s), Step::none);
  EXPECT_EQ(proof.step(start + 50s), Step::ask);
}

TEST(ListenProofTest, ItsOwnHasFiveSeconds) {
  ListenProof proof;
  ListenProof::Time const start{1h};
  proof.begin(start, 0.0);
  proof.asked(start + 30s, true);
  EXPECT_EQ(proof.step(start + 34'999ms), Step::none);
  EXPECT_EQ(proof.step(start + 35s), Step::deaf);
  proof.heard(start + 35s);
  EXPECT_EQ(proof.step(start + 35s), Step::none);
  EXPECT_EQ(proof.step(start + 65s), Step::ask);
}

TEST(ListenProofTest, AnswerWillDoWhenTheServerNotifiesNobody) {
  ListenProof proof;
  ListenProof::Time const start{1h};
  proof.begin(start, 0.0);
  proof.asked(start + 30s, false);
  EXPECT_EQ(proof.step(start + 59s), Step::none);
  EXPECT_EQ(proof.step(start + 60s), Step::ask);
}

TEST(ListenProofTest, ThoseThatBeganTogetherDoNotAskTogether) {
  ListenProof::Time const start{1h};
  ListenProof first;
  ListenProof second;
  first.begin(start, 0.9);
  second.begin(start, 0.1);
  EXPECT_EQ(first.due(), start + 27'300ms);
  EXPECT_EQ(second.due(), start + 29'700ms);
}

}  // namespace
}  // namespace posthouse::core
