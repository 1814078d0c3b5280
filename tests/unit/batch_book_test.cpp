// SPDX-License-Identifier: Apache-2.0
#include "complete/batch_book.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <set>

namespace posthouse::complete {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Tokens = std::vector<std::int64_t>;

// A claim of batches (token, members); ids are token * 1000 + position.
std::shared_ptr<store::Claim> claim_of(std::initializer_list<std::pair<int, int>> batches) {
  auto claim = std::make_shared<store::Claim>();
  for (auto const& [token, members] : batches) {
    for (int i = 0; i < members; ++i) {
      store::ClaimedJob job;
      job.token = token;
      job.position = i;
      job.id = token * 1000 + i;
      claim->jobs.push_back(job);
    }
  }
  return claim;
}

std::vector<std::int64_t> take_all(BatchBook& book) {
  std::vector<std::int64_t> ids;
  while (auto const* job = book.next()) ids.push_back(job->id);
  return ids;
}

Flush flush(BatchBook& book, int raise = 0) {
  int raised = 0;
  return book.prepare(raise, raised);
}

TEST(BatchBook, HandsOutInOrderAndOnlyWhatMayStart) {
  BatchBook book;
  book.open(claim_of({{1, 3}, {2, 3}}), 4);
  EXPECT_EQ(book.waiting(), 6);
  EXPECT_EQ(book.startable(), 4);
  EXPECT_THAT(take_all(book), ElementsAre(1000, 1001, 1002, 2000));
  EXPECT_EQ(book.handed(), 4);
  EXPECT_EQ(book.waiting(), 2);
  EXPECT_EQ(book.startable(), 0);
}

// The handler of an abandoned member keeps its place, also when its batch is closed or lost meanwhile.
TEST(BatchBook, AnAbandonedMemberEndsTwiceAndCountsOnce) {
  BatchBook book;
  book.open(claim_of({{1, 1}, {2, 2}}), 3);
  take_all(book);
  store::Move const move{.token = 1, .position = 0, .id = 1000, .outcome = "retry"};
  EXPECT_TRUE(book.abandoned(1, 0, move));
  EXPECT_EQ(book.handed(), 3);
  auto const first = flush(book);
  ASSERT_EQ(first.acks.size(), 1U);
  EXPECT_FALSE(first.acks[0].acked) << "closed";
  ASSERT_EQ(first.moves.size(), 1U);
  book.confirm({});
  EXPECT_FALSE(book.known(1));
  EXPECT_FALSE(book.ended(1, 0, std::nullopt)) << "nothing is to be reported";
  EXPECT_EQ(book.handed(), 2);
  EXPECT_FALSE(book.unreported());

  EXPECT_TRUE(book.abandoned(2, 1, {.token = 2, .position = 1, .id = 2001, .outcome = "retry"}));
  book.lose_all();
  EXPECT_FALSE(book.abandoned(2, 0, {.token = 2, .position = 0, .id = 2000, .outcome = "retry"}));
  EXPECT_FALSE(book.ended(2, 1, std::nullopt));
  EXPECT_FALSE(book.ended(2, 0, std::nullopt));
  EXPECT_EQ(book.handed(), 0);
  EXPECT_EQ(book.batches(), 0U);
}

TEST(BatchBook, ReleasesTheLastThatMayGo) {
  BatchBook book;
  auto const claim = claim_of({{1, 3}, {2, 3}});
  for (auto& job : claim->jobs) job.lane = job.token;
  book.open(claim, 2);
  ASSERT_EQ(book.next()->id, 1000);
  auto const any = [](std::int64_t) { return true; };
  EXPECT_EQ(book.release_last(9, [](std::int64_t lane) { return lane == 3; }), 0U);
  EXPECT_EQ(book.release_last(2, any), 2U);
  EXPECT_EQ(book.release_last(1, [](std::int64_t lane) { return lane == 1; }), 1U);
  EXPECT_EQ(book.waiting(), 2);
  EXPECT_EQ(book.startable(), 1);
  auto const said = flush(book, 9);
  ASSERT_EQ(said.moves.size(), 3U);
  EXPECT_EQ(said.moves[0].id, 2002);
  EXPECT_EQ(said.moves[1].id, 2001);
  EXPECT_EQ(said.moves[2].id, 1002);
  for (auto const& move : said.moves) EXPECT_EQ(move.outcome, "release");
  book.confirm({});
  EXPECT_THAT(take_all(book), ElementsAre(1001, 2000));
  for (auto const& [token, position] : {std::pair{1, 0}, std::pair{1, 1}, std::pair{2, 0}}) {
    EXPECT_TRUE(book.ended(token, position, std::nullopt));
  }
  for (auto const& ack : flush(book).acks) EXPECT_FALSE(ack.acked) << "closed";
  book.confirm({});
  EXPECT_EQ(book.batches(), 0U);
  EXPECT_EQ(book.release_last(9, any), 0U);
}

TEST(BatchBook, UrgentBatchesGoFirst) {
  BatchBook book;
  book.open(claim_of({{1, 2}}), 0);
  book.open(claim_of({{2, 1}, {3, 1}}), 0, true);
  flush(book, 3);
  book.confirm({});
  EXPECT_THAT(take_all(book), ElementsAre(2000, 3000, 1000));
}

TEST(BatchBook, RaisedMembersStartOnlyAfterTheCommit) {
  BatchBook book;
  book.open(claim_of({{1, 5}}), 1);
  EXPECT_THAT(take_all(book), ElementsAre(1000));
  int raised = 0;
  auto const sent = book.prepare(2, raised);
  EXPECT_EQ(raised, 2);
  ASSERT_EQ(sent.acks.size(), 1u);
  EXPECT_EQ(sent.acks[0].started, 3);
  EXPECT_EQ(sent.acks[0].acked, "00000");
  EXPECT_THAT(take_all(book), IsEmpty());
  book.confirm({});
  EXPECT_THAT(take_all(book), ElementsAre(1001, 1002));
}

TEST(BatchBook, RaiseThatFailedAllowsNothing) {
  BatchBook book;
  book.open(claim_of({{1, 3}}), 0);
  flush(book, 3);
  book.not_confirmed(true);
  EXPECT_THAT(take_all(book), IsEmpty());
  EXPECT_TRUE(book.unreported());
  flush(book, 1);
  book.confirm({});
  EXPECT_THAT(take_all(book), ElementsAre(1000));
}

TEST(BatchBook, AcksAreCumulativeAndTheLastOneCloses) {
  BatchBook book;
  book.open(claim_of({{1, 3}}), 3);
  take_all(book);
  book.ended(1, 1, std::nullopt);
  EXPECT_EQ(flush(book).acks[0].acked, "010");
  book.confirm({});
  EXPECT_FALSE(book.unreported());
  book.ended(1, 0, std::nullopt);
  EXPECT_EQ(flush(book).acks[0].acked, "110");
  book.confirm({});
  book.ended(1, 2, std::nullopt);
  EXPECT_EQ(flush(book).acks[0].acked, std::nullopt);
  book.confirm({});
  EXPECT_EQ(book.batches(), 0u);
}

TEST(BatchBook, MovesGoWithTheAckOfTheirBitUntilConfirmed) {
  BatchBook book;
  book.open(claim_of({{1, 2}}), 2);
  take_all(book);
  book.ended(1, 0, store::Move{.token = 1, .position = 0, .id = 1000, .outcome = "retry"});
  auto first = flush(book);
  EXPECT_EQ(first.acks[0].acked, "10");
  ASSERT_EQ(first.moves.size(), 1u);
  book.not_confirmed(true);
  book.ended(1, 1, std::nullopt);
  auto again = flush(book);
  EXPECT_EQ(again.acks[0].acked, std::nullopt);
  ASSERT_EQ(again.moves.size(), 1u);
  EXPECT_EQ(again.moves[0].id, 1000);
  book.confirm({});
  EXPECT_EQ(book.batches(), 0u);
  EXPECT_TRUE(flush(book).empty());
}

TEST(BatchBook, NothingToSayIsEmpty) {
  BatchBook book;
  book.open(claim_of({{1, 2}}), 2);
  EXPECT_TRUE(flush(book).empty());
  EXPECT_TRUE(flush(book, 5).empty());  // all of it may start already
}

TEST(BatchBook, LostBatchDropsResultsAndFreesItsHandlersOneByOne) {
  BatchBook book;
  book.open(claim_of({{1, 4}, {2, 1}}), 5);
  take_all(book);
  book.ended(1, 0, std::nullopt);
  book.ended(1, 1, store::Move{.token = 1, .position = 1, .id = 1001, .outcome = "fail"});
  flush(book);
  Tokens const lost{1};
  book.confirm(lost);
  EXPECT_EQ(book.take_dropped(), 2);
  EXPECT_EQ(book.lowest(), 2);
  EXPECT_EQ(book.handed(), 3);  // two of batch 1 still run
  EXPECT_FALSE(book.ended(1, 2, std::nullopt));
  EXPECT_FALSE(book.ended(1, 3, store::Move{.token = 1, .position = 3}));
  EXPECT_EQ(book.handed(), 1);
  EXPECT_FALSE(book.known(1));
  EXPECT_TRUE(flush(book).empty());
}

TEST(BatchBook, UnstartedMembersAreReleased) {
  BatchBook book;
  book.open(claim_of({{1, 3}, {2, 2}}), 1);
  take_all(book);
  EXPECT_EQ(book.release_unstarted(), 4u);
  EXPECT_EQ(book.waiting(), 0);
  auto sent = flush(book);
  ASSERT_EQ(sent.acks.size(), 2u);
  EXPECT_EQ(sent.acks[0].acked, "011");
  EXPECT_EQ(sent.acks[1].acked, std::nullopt);
  ASSERT_EQ(sent.moves.size(), 4u);
  for (auto const& move : sent.moves) EXPECT_EQ(move.outcome, "release");
  book.confirm({});
  EXPECT_EQ(book.handed(), 1);
  book.ended(1, 0, std::nullopt);
  flush(book);
  book.confirm({});
  EXPECT_EQ(book.batches(), 0u);
}

TEST(BatchBook, ReconcileFindsUnknownAndLostBatches) {
  BatchBook book;
  book.open(claim_of({{1, 1}, {2, 1}, {3, 1}}), 3);
  take_all(book);
  book.ended(3, 0, std::nullopt);
  flush(book);
  book.not_confirmed(true);  // the close of 3 may have been done
  Tokens const open{1, 7};
  auto const differences = book.reconcile(open);
  EXPECT_THAT(differences.unknown, ElementsAre(7));
  EXPECT_THAT(differences.lost, ElementsAre(2));
  EXPECT_FALSE(book.known(3));
  EXPECT_EQ(book.lowest(), 1);
  EXPECT_TRUE(flush(book).empty());
}

TEST(BatchBook, RefusedCloseIsNotInDoubt) {
  BatchBook book;
  book.open(claim_of({{1, 1}}), 1);
  take_all(book);
  book.ended(1, 0, std::nullopt);
  flush(book);
  book.not_confirmed(false);
  EXPECT_THAT(book.reconcile({}).lost, ElementsAre(1));
}

TEST(BatchBook, DeadIncarnationLosesAll) {
  BatchBook book;
  book.open(claim_of({{1, 2}, {2, 2}}), 3);
  book.next();
  book.lose_all();
  EXPECT_EQ(book.waiting(), 0);
  EXPECT_EQ(book.startable(), 0);
  EXPECT_EQ(book.next(), nullptr);
  EXPECT_EQ(book.handed(), 1);
  EXPECT_EQ(book.lowest(), std::nullopt);
  EXPECT_FALSE(book.ended(1, 0, std::nullopt));
  EXPECT_EQ(book.batches(), 0u);
}

TEST(BatchBook, MissingRowCountsAsEnded) {
  auto claim = claim_of({{1, 3}});
  claim->jobs.erase(claim->jobs.begin() + 1);
  BatchBook book;
  book.open(claim, 2);
  EXPECT_THAT(take_all(book), ElementsAre(1000));
  flush(book, 1);
  book.confirm({});
  EXPECT_THAT(take_all(book), ElementsAre(1002));
  book.ended(1, 0, std::nullopt);
  EXPECT_EQ(flush(book).acks[0].acked, "110");
  book.confirm({});
  book.ended(1, 2, std::nullopt);
  EXPECT_EQ(flush(book).acks[0].acked, std::nullopt);
}

// Random histories against a plain record of what was sent and confirmed.
TEST(BatchBook, RandomHistoriesReportEveryMemberOnce) {
  for (unsigned seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    auto const below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    BatchBook book;
    std::vector<store::ClaimedJob> running;
    std::set<std::int64_t> started;
    std::map<std::int64_t, std::string> server;  // committed acks; closed batches are gone
    std::map<std::int64_t, int> sizes;
    int token = 0;
    int claimed = 0;
    int closed_members = 0;
    for (int round = 0; round < 300 || book.batches() > 0; ++round) {
      ASSERT_LT(round, 20000);
      if (round < 300 && below(4) == 0) {
        int const members = 1 + below(6);
        book.open(claim_of({{++token, members}}), below(members + 1));
        server[token] = std::string(static_cast<std::size_t>(members), '0');
        sizes[token] = members;
        claimed += members;
      }
      while (auto const* job = book.next()) {
        ASSERT_TRUE(started.insert(job->id).second) << "started twice";
        running.push_back(*job);
      }
      if (!running.empty() && below(2) == 0) {
        auto const at = static_cast<std::size_t>(below(static_cast<int>(running.size())));
        auto const job = running[at];
        running.erase(running.begin() + static_cast<std::ptrdiff_t>(at));
        EXPECT_TRUE(book.ended(job.token, job.position, std::nullopt));
      }
      if (below(3) == 0) {
        auto const sent = flush(book, below(4));
        if (below(4) == 0) {
          book.not_confirmed(false);
          continue;
        }
        for (auto const& ack : sent.acks) {
          ASSERT_TRUE(server.contains(ack.token));
          auto& bits = server[ack.token];
          if (ack.acked) {
            ASSERT_EQ(ack.acked->size(), bits.size());
            for (std::size_t i = 0; i < bits.size(); ++i) ASSERT_FALSE(bits[i] == '1' && (*ack.acked)[i] == '0');
            bits = *ack.acked;
          } else {
            closed_members += sizes[ack.token];
            server.erase(ack.token);
          }
        }
        book.confirm({});
      }
      ASSERT_EQ(book.handed(), static_cast<int>(running.size()));
    }
    EXPECT_EQ(closed_members, claimed);
    EXPECT_EQ(book.waiting(), 0);
    EXPECT_EQ(book.startable(), 0);
  }
}

}  // namespace
}  // namespace posthouse::complete
