// SPDX-License-Identifier: Apache-2.0
// Answers as servers send them, whole and byte by byte, and those that are none.
#include <gtest/gtest.h>

#include <string>

#include "execute/http_reader.hpp"

namespace posthouse::execute {
namespace {

using State = HttpReader::State;

struct Read {
  State state = State::more;
  int status = 0;
  std::string body{};
  bool cut = false;
};

/// `piece`: bytes at a time. At the end the connection is closed.
Read read(std::string_view text, std::size_t piece, std::size_t most = 1000, bool no_body = false) {
  HttpReader reader(no_body, most);
  auto state = State::more;
  for (std::size_t at = 0; at < text.size() && state == State::more; at += piece) {
    state = reader.feed(text.substr(at, piece));
  }
  if (state == State::more) state = reader.end();
  return {.state = state, .status = reader.status(), .body = reader.take_body(), .cut = reader.cut()};
}

TEST(HttpReader, ReadsBodiesOfEveryKind) {
  for (std::size_t const piece : {std::size_t{1}, std::size_t{3}, std::size_t{10'000}}) {
    auto const body = [&](std::string const& rest) {
      auto const got = read("HTTP/1.1 200 OK\r\n" + rest, piece);
      EXPECT_EQ(got.state, State::done) << rest;
      EXPECT_EQ(got.status, 200);
      EXPECT_FALSE(got.cut);
      return got.body;
    };
    EXPECT_EQ(body("Content-Length: 5\r\n\r\nhello"), "hello");
    EXPECT_EQ(body("content-length:0\r\n\r\n"), "");
    EXPECT_EQ(body("X: y\r\n\r\nto the end"), "to the end");
    EXPECT_EQ(body("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n, chunks!!\r\n0\r\n\r\n"),
              "hello, chunks!!");
    EXPECT_EQ(body("Transfer-Encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\nTrailer: y\r\n\r\n"), "x");
    EXPECT_EQ(read("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n", piece).status, 204);
    EXPECT_EQ(read("HTTP/1.0 200\r\nContent-Length: 5\r\n\r\n", piece, 1000, true).state, State::done);
  }
}

TEST(HttpReader, CutsWhatIsTooLong) {
  for (std::size_t const piece : {std::size_t{1}, std::size_t{10'000}}) {
    for (std::string const text :
         {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
          "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n0123456789", "HTTP/1.1 200 OK\r\n\r\n0123456789",
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n012\r\n7\r\n3456789\r\n0\r\n\r\n"}) {
      auto const got = read(text, piece, 4);
      EXPECT_EQ(got.state, State::done) << text;
      EXPECT_EQ(got.body, "0123");
      EXPECT_TRUE(got.cut);
    }
    EXPECT_FALSE(read("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n0123", piece, 4).cut);
  }
}

TEST(HttpReader, RefusesWhatIsNoAnswer) {
  for (std::string const text : {
           "",
           "nonsense",
           "HTTP",
           "HTTP/1.1 200 OK\r\n",
           "HTTP/2.0 200 OK\r\n\r\n",
           "HTTP/1.1 20 OK\r\n\r\n",
           "HTTP/1.1 2000 OK\r\n\r\n",
           "HTTP/1.1 099 OK\r\n\r\n",
           "HTTP/1.1 101 Switching\r\n\r\n",
           "HTTP/1.1  200 OK\r\n\r\n",
           "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
           "HTTP/1.1 200 OK\r\n: x\r\n\r\n",
           "HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
           "HTTP/1.1 200 OK\r\nX: y\r\n folded: z\r\n\r\n",
           "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
           "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\nx",
           "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx",
           "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
           "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nx",
           "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
           "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n",
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
       }) {
    EXPECT_EQ(read(text, 1).state, State::broken) << text;
    EXPECT_EQ(read(text, 10'000).state, State::broken) << text;
  }
}

TEST(HttpReader, StaysBoundedWhateverComes) {
  auto const floods = [](std::string const& start, std::string const& more) {
    HttpReader reader(false, 1000);
    auto state = reader.feed(start);
    std::size_t fed = start.size();
    while (state == State::more && fed < 10'000'000) {
      state = reader.feed(more);
      fed += more.size();
    }
    EXPECT_EQ(state, State::flooded) << start;
    EXPECT_LT(fed, 300'000U);
  };
  floods("HTTP/1.1 200 ", std::string(1000, 'x'));
  floods("HTTP/1.1 200 OK\r\n", "X: " + std::string(100, 'x') + "\r\n");
  floods("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", std::string(1000, '0'));
  floods("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1;" + std::string(900, 'x') + "\r\nx\r\n");
  floods("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X: " + std::string(100, 'x') + "\r\n");
  HttpReader interim(false, 1000);
  auto state = State::more;
  for (int i = 0; i < 20; ++i) state = interim.feed("HTTP/1.1 102 Processing\r\n\r\n");
  EXPECT_EQ(state, State::broken);
}

}  // namespace
}  // namespace posthouse::execute
