// SPDX-License-Identifier: Apache-2.0
// `posthouse work` with `http` handlers and with http.listen: the whole way, from the configuration to the page.
#include <boost/json.hpp>
#include <map>
#include <set>
#include <sstream>

#include "integration/cli_fixture.hpp"
#include "support/raw_server.hpp"

namespace posthouse::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class HttpWork : public CliDatabaseTest {
 protected:
  std::string enqueue(std::string const& kind, std::string const& payload = "{}") {
    return sql.one("select posthouse.enqueue($1, $2::jsonb)", kind, payload);
  }
  std::string last_error(std::string const& id) {
    return sql.one("select last_error from posthouse.jobs where id = $1", id);
  }
  /// GET over a fresh connection; the whole answer.
  Ran get(std::string const& port, std::string const& path, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments{
        "curl", "-sS", "-i", "--max-time", "20", "--path-as-is", "http://127.0.0.1:" + port + path};
    arguments.insert(arguments.end(), more.begin(), more.end());
    ChildProcess child({.argv = arguments, .environment = {{"http_proxy", ""}}});
    auto const status = child.wait();
    return {status.value_or(-1), child.output(), child.errors()};
  }
};

TEST_F(HttpWork, JobsBecomeRequests) {
  RawServer server([](RawServer::Connection const& c) {
    if (c.request().find("/fine/") != std::string::npos) c.send(http_answer("200 OK", R"({"got": 1.50})"));
    if (c.request().find("/gone/") != std::string::npos) c.send(http_answer("410 Gone", "long ago"));
    if (c.request().find("/busy/") != std::string::npos) {
      c.send(http_answer("429 Too Many Requests", "", "Retry-After: 3600\r\n"));
    }
    if (c.request().find("/sick/") != std::string::npos) c.send(http_answer("500 Sick", "oh s3cret-canary"));
  });
  environment["POSTHOUSE_TEST_SECRET"] = "s3cret-canary";
  auto const common = "      headers: {X-Key: \"${POSTHOUSE_TEST_SECRET}\"}\n      allow_addresses: loopback\n";
  auto const kind = [&](std::string const& name, std::string const& more = {}) {
    return "  " + name + ":\n    max_attempts: 2\n    backoff: 0\n    http:\n      url: " +
           server.url("/" + name + "/{{payload.u}}") + "\n" + common + more;
  };
  auto const config =
      folder.write("c.yaml", "kinds:\n" +
                                 kind("fine",
                                      "      body: {user: \"{{payload.u}}\", note: \"for {{payload.u}}\", "
                                      "n: \"{{payload.n}}\"}\n") +
                                 kind("gone") + kind("busy") + kind("sick"));
  auto const fine = enqueue("fine", R"({"u": "a\"b", "n": [1, 2.50]})");
  auto const gone = enqueue("gone", R"({"u": 1})");
  auto const busy = enqueue("busy", R"({"u": 1})");
  auto const sick = enqueue("sick", R"({"u": 1})");
  auto const ran = run({"work", "--once", "--config", config, "--log-level", "debug"});
  ASSERT_EQ(ran.status, 0) << ran.err;

  EXPECT_EQ(state(fine), "succeeded");
  EXPECT_THAT(run({"jobs", "show", fine, "--json"}).out, HasSubstr(R"({"got": 1.50})"));
  std::string sent;
  for (auto const& request : server.requests()) {
    if (request.find("/fine/") != std::string::npos) sent = request;
  }
  EXPECT_THAT(sent, HasSubstr("POST /fine/a%22b HTTP/1.1"));
  EXPECT_THAT(sent, HasSubstr("Idempotency-Key: " + fine + "\r\n"));
  EXPECT_THAT(sent, HasSubstr("X-Key: s3cret-canary\r\n"));
  EXPECT_THAT(sent, HasSubstr(R"({"user": "a\"b", "note": "for a\"b", "n": [1, 2.50]})"));

  EXPECT_EQ(state(gone), "failed");
  EXPECT_THAT(last_error(gone), HasSubstr("answered 410 Gone: long ago"));
  EXPECT_EQ(sql.number("select attempt from posthouse.jobs where id = $1", gone), 1);
  EXPECT_EQ(state(busy), "retryable");
  EXPECT_GT(sql.number("select extract(epoch from run_at - now())::bigint from posthouse.jobs where id = $1", busy),
            3000);
  EXPECT_EQ(state(sick), "failed");
  EXPECT_EQ(sql.number("select count(*) from posthouse.attempt_error where job = $1", sick), 2);
  EXPECT_THAT(last_error(sick), HasSubstr("answered 500 Sick: oh ***"));
  EXPECT_THAT(ran.err, Not(HasSubstr("canary")));
  EXPECT_THAT(run({"config", "show", "--config", config}).out, HasSubstr("${POSTHOUSE_TEST_SECRET}"));
}

TEST_F(HttpWork, AChildProcessMakesRequestsToo) {
  RawServer server([](RawServer::Connection const& c) { c.send(http_answer("200 OK", "1")); });
  auto const config =
      folder.write("c.yaml", "kinds: {k: {http: {url: '" + server.url() + "', allow_addresses: loopback}}}\n");
  auto const id = enqueue("k");
  ASSERT_EQ(run({"work", "--once", "--config", config, "--processes", "1"}).status, 0);
  EXPECT_EQ(state(id), "succeeded");
}

TEST_F(HttpWork, TheConfigurationIsChecked) {
  auto const problems = [&](std::string const& text) {
    return run({"config", "check", "--config", folder.write("c.yaml", text)}).err;
  };
  EXPECT_THAT(problems("kinds: {k: {http: {url: 'https://example.com/{{payload.a}}'}}}\n"), Not(HasSubstr("kinds")));
  EXPECT_THAT(problems("kinds: {k: {http: {}}}\n"), HasSubstr("kinds.k.http.url is missing"));
  EXPECT_THAT(problems("kinds: {k: {http: {url: 'https://{{payload.host}}/'}}}\n"),
              HasSubstr("so that no job chooses"));
  EXPECT_THAT(problems("kinds: {k: {sql: select 1, http: {url: 'https://example.com/'}}}\n"),
              HasSubstr("has both sql and http"));
  EXPECT_THAT(problems("kinds: {k: {http: {url: 'https://example.com/', body: '{\"a\": '}}}\n"),
              HasSubstr("kinds.k.http.body"));
  EXPECT_THAT(problems("kinds: {k: {http: {url: 'https://example.com/', retries: 3}}}\n"), HasSubstr("is not a key"));
  EXPECT_THAT(problems("http: {listen: '0.0.0.0:9187'}\n"), HasSubstr("http.allow_remote: true"));
  EXPECT_THAT(problems("http: {listen: '9187'}\n"), HasSubstr("http.listen"));
  auto const shown = run({"config", "show", "--config",
                          folder.write("s.yaml",
                                       "kinds: {k: {http: {url: 'https://example.com/?key=canary-1', headers: "
                                       "{Authorization: Bearer canary-2, Accept: text/plain}}}}\n")});
  EXPECT_THAT(shown.out, Not(HasSubstr("canary")));
  EXPECT_THAT(shown.out, HasSubstr("text/plain"));
}

TEST_F(HttpWork, ASecretThatIsMissingKeepsItFromStarting) {
  auto const config = folder.write(
      "c.yaml", "kinds: {k: {http: {url: 'https://example.com/', headers: {A: '${POSTHOUSE_TEST_NONE}'}}}}\n");
  auto const ran = run({"work", "--once", "--config", config});
  EXPECT_EQ(ran.status, 2);
  EXPECT_THAT(ran.err, HasSubstr("kinds.k.http.headers.A"));
  EXPECT_THAT(ran.err, HasSubstr("POSTHOUSE_TEST_NONE"));
}

/// A checker of the text format, written from its description and not from our code.
class Page {
 public:
  explicit Page(std::string const& text) {
    EXPECT_EQ(text.back(), '\n');
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) read(line);
    for (auto const& [name, type] : types_) {
      EXPECT_TRUE(helped_.contains(name)) << name << " has no HELP";
      EXPECT_EQ(name.ends_with("_total"), type == "counter") << name;
    }
    check_histograms();
  }
  [[nodiscard]] double value(std::string const& series) const {
    auto const found = values_.find(series);
    return found == values_.end() ? -1 : found->second;
  }
  [[nodiscard]] bool has(std::string const& series) const { return values_.contains(series); }
  [[nodiscard]] std::size_t size() const { return values_.size(); }

 private:
  void read(std::string const& line) {
    if (line.starts_with("# ")) {
      std::istringstream words(line);
      std::string hash, what, name, type;
      words >> hash >> what >> name >> type;
      ASSERT_TRUE(what == "HELP" || what == "TYPE") << line;
      if (what == "HELP") {
        EXPECT_TRUE(helped_.insert(name).second) << line;
        return;
      }
      EXPECT_TRUE(type == "counter" || type == "gauge" || type == "histogram") << line;
      EXPECT_TRUE(types_.emplace(name, type).second) << "a family twice: " << line;
      family_ = name;
      return;
    }
    std::size_t at = 0;
    auto const is_name = [&](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == ':';
    };
    while (at < line.size() && is_name(line[at])) ++at;
    auto const name = line.substr(0, at);
    ASSERT_FALSE(name.empty()) << line;
    auto rest = name;
    ASSERT_TRUE(name.starts_with(family_)) << "not in its family: " << line;
    auto const suffix = name.substr(family_.size());
    bool const histogram = types_[family_] == "histogram";
    EXPECT_TRUE(histogram ? suffix == "_bucket" || suffix == "_sum" || suffix == "_count" : suffix.empty()) << line;
    if (line.at(at) == '{') {
      ++at;
      std::set<std::string> labels;
      while (line.at(at) != '}') {
        auto const begin = at;
        while (is_name(line.at(at))) ++at;
        EXPECT_TRUE(labels.insert(line.substr(begin, at - begin)).second) << line;
        ASSERT_EQ(line.substr(at, 2), "=\"") << line;
        at += 2;
        while (line.at(at) != '"') {
          if (line.at(at) == '\\') {
            ASSERT_NE(std::string("\\\"n").find(line.at(at + 1)), std::string::npos) << line;
            ++at;
          }
          ++at;
        }
        ++at;
        if (line.at(at) == ',') ++at;
      }
      ++at;
    }
    ASSERT_EQ(line.at(at), ' ') << line;
    auto const number = line.substr(at + 1);
    std::size_t used = 0;
    double const value = std::stod(number, &used);
    EXPECT_EQ(used, number.size()) << line;
    EXPECT_TRUE(values_.emplace(line.substr(0, at), value).second) << "a series twice: " << line;
  }

  void check_histograms() {
    std::map<std::string, double> last;
    for (auto const& [name, type] : types_) {
      if (type != "histogram") continue;
      for (auto const& [series, value] : values_) {
        if (!series.starts_with(name + "_count")) continue;
        auto labels = series.substr(name.size() + 6);
        labels.pop_back();
        EXPECT_EQ(values_.at(name + "_bucket" + labels + ",le=\"+Inf\"}"), value) << series;
        EXPECT_TRUE(values_.contains(name + "_sum" + labels + "}")) << series;
      }
    }
  }

  std::string family_{};
  std::set<std::string> helped_{};
  std::map<std::string, std::string> types_{};
  std::map<std::string, double> values_{};
};

TEST_F(HttpWork, MetricsTellWhatHappened) {
  auto const config = folder.write("m.yaml",
                                   "http: {listen: '127.0.0.1:0'}\n"
                                   "kinds:\n"
                                   "  good: {exec: [/bin/true]}\n"
                                   "  bad: {exec: [/bin/false], max_attempts: 2, backoff: 0}\n");
  for (int i = 0; i < 3; ++i) enqueue("good");
  enqueue("bad");
  sql.exec("select posthouse.enqueue('good', delay => '1 h'), posthouse.enqueue('other', queue => 'q2')");
  sql.exec("select posthouse.add_schedule('s', 'good', cron => '@daily')");
  auto worker = start({"work", "--config", config, "--log-level", "info"});
  ASSERT_TRUE(worker.said("port=")) << worker.errors();
  auto const log = worker.errors();
  auto const at = log.find("port=") + 5;
  auto const port = log.substr(at, log.find_first_not_of("0123456789", at) - at);
  ASSERT_TRUE(eventually(
      [&] { return sql.number("select count(*) from posthouse.jobs where state in ('succeeded', 'failed')") == 4; }));

  EXPECT_THAT(get(port, "/healthz").out, ::testing::AllOf(HasSubstr("200 OK"), HasSubstr("alive")));
  auto const ready = get(port, "/readyz").out;
  EXPECT_THAT(ready, HasSubstr("HTTP/1.1 200 OK"));
  auto const json = boost::json::parse(ready.substr(ready.find("\r\n\r\n") + 4)).as_object();
  EXPECT_EQ(json.at("databases").at(0).at("state").as_string(), "serving");

  // The worker counts an end when it reports it, a moment after the database knows.
  std::string const good = "{database=\"default\",queue=\"default\",kind=\"good\"";
  std::string const bad = "{database=\"default\",queue=\"default\",kind=\"bad\"";
  std::string text;
  ASSERT_TRUE(eventually([&] {
    auto const out = get(port, "/metrics").out;
    text = out.substr(out.find("\r\n\r\n") + 4);
    return text.find("posthouse_jobs_finished_total" + bad + ",outcome=\"failed\"} 1\n") != std::string::npos;
  }));
  Page const page(text);
  EXPECT_EQ(page.value("posthouse_database_up{database=\"default\"}"), 1);
  EXPECT_EQ(page.value("posthouse_jobs_finished_total" + good + ",outcome=\"succeeded\"}"), 3);
  EXPECT_EQ(page.value("posthouse_jobs_finished_total" + bad + ",outcome=\"failed\"}"), 1);
  EXPECT_EQ(page.value("posthouse_attempts_total" + bad + ",outcome=\"retried\"}"), 1);
  EXPECT_EQ(page.value("posthouse_attempt_duration_seconds_count" + bad + "}"), 2);
  EXPECT_EQ(page.value("posthouse_jobs" + good + ",state=\"scheduled\"}"), 1);
  EXPECT_EQ(page.value("posthouse_jobs{database=\"default\",queue=\"q2\",kind=\"other\",state=\"available\"}"), 1);
  EXPECT_GE(
      page.value("posthouse_oldest_seconds{database=\"default\",queue=\"q2\",kind=\"other\",state=\"available\"}"), 0);
  EXPECT_EQ(page.value("posthouse_schedules{database=\"default\",state=\"active\"}"), 1);
  EXPECT_EQ(page.value("posthouse_schedule_lateness_seconds{database=\"default\"}"), 0);
  EXPECT_EQ(page.value("posthouse_workers{database=\"default\"}"), 1);
  EXPECT_EQ(page.value("posthouse_worker_slots{database=\"default\"}"), 4);
  EXPECT_TRUE(page.has("posthouse_leader_alive{database=\"default\"}"));
  EXPECT_GE(page.value("posthouse_jobs_claimed_total{database=\"default\"}"), 5);
  EXPECT_GT(page.value("process_resident_memory_bytes"), 0);
  EXPECT_GT(page.value("process_start_time_seconds"), 1.7e9);
  EXPECT_GE(page.value("process_cpu_seconds_total"), 0);

  EXPECT_THAT(get(port, "/metrics", {"-H", "Host: evil.example"}).out, HasSubstr("421 "));
  EXPECT_THAT(get(port, "/metrics", {"-H", "Origin: http://evil.example"}).out, Not(HasSubstr("Access-Control")));
  EXPECT_THAT(get(port, "/metrics", {"-X", "POST"}).out, HasSubstr("405 "));
  EXPECT_THAT(get(port, "/metrics", {"-d", "x"}).out, HasSubstr("413 "));
  EXPECT_THAT(get(port, "/metrics", {"-H", "X: " + std::string(20'000, 'x')}).out, HasSubstr("431 "));
  EXPECT_THAT(get(port, "/../etc/passwd").out, HasSubstr("404 "));
  EXPECT_THAT(get(port, "/%2e%2e/metrics").out, HasSubstr("404 "));
  EXPECT_THAT(get(port, "/healthz", {"-I"}).out, ::testing::EndsWith("\r\n\r\n"));
  worker.terminate();
  EXPECT_EQ(worker.wait(), 0);
}

TEST_F(HttpWork, AnAddressInUseIsSaid) {
  RawServer const taken([](RawServer::Connection const&) {});
  auto const config = folder.write(
      "m.yaml", "http: {listen: '127.0.0.1:" + std::to_string(taken.port()) + "'}\nkinds: {k: {exec: [/bin/true]}}\n");
  auto const ran = run({"work", "--once", "--config", config});
  EXPECT_EQ(ran.status, 2);
  EXPECT_THAT(ran.err, HasSubstr("http.listen"));
}

}  // namespace
}  // namespace posthouse::test
