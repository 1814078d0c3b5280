// SPDX-License-Identifier: Apache-2.0
// Templates of HTTP jobs, the requests made of them, and values out of JSON.
#include <gtest/gtest.h>

#include <cstdlib>
#include <posthouse/error.hpp>
#include <string>
#include <vector>

#include "core/json_path.hpp"
#include "core/payload_check.hpp"
#include "execute/http_plan.hpp"
#include "execute/http_template.hpp"

namespace posthouse::execute {
namespace {

using Into = Template::Into;

Job job_with(std::string payload) {
  Job::Facts facts;
  facts.id = 42;
  facts.kind = "mail";
  facts.queue = "out";
  facts.attempt = 2;
  facts.worker = 7;
  facts.token = 8;
  facts.position = 9;
  facts.payload = json{std::move(payload)};
  facts.headers = {{"tenant", "acme"}};
  return {std::move(facts), {}, nullptr};
}

std::string rendered(std::string const& text, Into into, std::string payload) {
  return Template("t", text).render(job_with(std::move(payload)), into);
}

TEST(JsonPath, FindsValuesAsTheyStand) {
  std::string const text =
      R"( {"a": {"b": [1, {"c": "x\"},]y"}, 12345678901234567890.10]}, "d\u0065": null, "e": []} )";
  auto const at = [&](std::vector<std::string> const& path) { return core::json_at(text, path).value_or("-"); };
  EXPECT_EQ(at({"a", "b", "0"}), "1");
  EXPECT_EQ(at({"a", "b", "1", "c"}), R"("x\"},]y")");
  EXPECT_EQ(at({"a", "b", "2"}), "12345678901234567890.10");
  EXPECT_EQ(at({"de"}), "null");
  EXPECT_EQ(at({"e"}), "[]");
  EXPECT_EQ(at({"e", "0"}), "-");
  EXPECT_EQ(at({"a", "b", "3"}), "-");
  EXPECT_EQ(at({"a", "b", "x"}), "-");
  EXPECT_EQ(at({"a", "b", "0", "c"}), "-");
  EXPECT_EQ(at({"no"}), "-");
  EXPECT_EQ(core::json_at("[[1],[2,3]]", {"1", "1"}), "3");
  EXPECT_EQ(core::json_at("{}", {"a"}), std::nullopt);
  EXPECT_EQ(core::json_unquoted(R"("\u00e4\ud83d\ude00\n\/\\")"), "\xC3\xA4\xF0\x9F\x98\x80\n/\\");
  EXPECT_EQ(core::json_escaped("a\"\\\n\x01"), R"(a\"\\\u000a\u0001)");
}

TEST(HttpTemplate, EscapesForItsPlace) {
  std::string const hostile = R"({"v": "a/b?c&d=e#f \"x\"\r\n\u00e4"})";
  EXPECT_EQ(rendered("/u/{{payload.v}}", Into::url, hostile), "/u/a%2Fb%3Fc%26d%3De%23f%20%22x%22%0D%0A%C3%A4");
  EXPECT_EQ(rendered("v={{payload.v}}", Into::form, hostile), "v=a%2Fb%3Fc%26d%3De%23f+%22x%22%0D%0A%C3%A4");
  EXPECT_EQ(rendered(R"({"v": {{payload.v}}, "w": "<{{payload.v}}>"})", Into::json, hostile),
            R"({"v": "a/b?c&d=e#f \"x\"\u000d\u000aä", "w": "<a/b?c&d=e#f \"x\"\u000d\u000aä>"})");
  EXPECT_THROW(rendered("{{payload.v}}", Into::header, hostile), CannotFill);
  EXPECT_EQ(rendered(R"({"q": "\"{{payload.v}}", "n": {{payload.n}}})", Into::json, R"({"v": "1\"", "n": [1, 2.50]})"),
            R"({"q": "\"1\"", "n": [1, 2.50]})");
}

TEST(HttpTemplate, KnowsTheJob) {
  EXPECT_EQ(rendered("{{job.id}} {{job.kind}} {{ job.queue }} {{job.attempt}} {{job.max_attempts}} {{job.token}} "
                     "{{headers.tenant}}",
                     Into::text, "{}"),
            "42 mail out 2 25 7.8.9 acme");
  EXPECT_EQ(rendered(R"({"id": {{job.id}}, "n": {{job.attempt}}, "all": {{payload}}})", Into::json, R"({"a": [1]})"),
            R"({"id": "42", "n": 2, "all": {"a": [1]}})");
  EXPECT_EQ(rendered("/{{payload.n}}/{{payload.b}}", Into::url, R"({"n": 12.50, "b": true})"), "/12.50/true");
}

TEST(HttpTemplate, WhatCannotStandThereCannotBeFilled) {
  EXPECT_THROW(rendered("/{{payload.x}}", Into::url, "{}"), CannotFill);
  EXPECT_THROW(rendered("/{{payload.x}}", Into::url, R"({"x": null})"), CannotFill);
  EXPECT_THROW(rendered("/{{payload.x}}", Into::url, R"({"x": {}})"), CannotFill);
  EXPECT_THROW(rendered("{{payload.x}}", Into::header, R"({"x": [1]})"), CannotFill);
  EXPECT_THROW(rendered("{{headers.other}}", Into::text, "{}"), CannotFill);
  try {
    rendered("/{{payload.card}}/{{payload.x}}", Into::url, R"({"card": "4111-canary", "x": {}})");
    FAIL();
  } catch (CannotFill const& error) {
    EXPECT_EQ(std::string(error.what()).find("canary"), std::string::npos) << error.what();
  }
}

TEST(HttpTemplate, RefusesWhatItDoesNotKnow) {
  for (auto const* text :
       {"{{", "{{}}", "{{payload", "{{payload.}}", "{{payload..a}}", "{{payloads}}", "{{job}}", "{{job.secret}}",
        "{{env.HOME}}", "{{headers.}}", "{{ }}", "${", "${}", "${file:}", "{{job.id}"}) {
    EXPECT_THROW(Template("t", text), InvalidArgument) << text;
  }
  EXPECT_EQ(rendered("$${HOME} $5 {x}", Into::text, "{}"), "${HOME} $5 {x}");
}

TEST(HttpTemplate, ReadsSecretsOnce) {
  ::setenv("POSTHOUSE_TEST_SECRET", "s3cret-canary", 1);
  Template header("t", "Bearer ${POSTHOUSE_TEST_SECRET}");
  std::vector<std::string> secrets;
  header.read_secrets(secrets);
  ::unsetenv("POSTHOUSE_TEST_SECRET");
  header.read_secrets(secrets);
  EXPECT_EQ(secrets, std::vector<std::string>{"s3cret-canary"});
  EXPECT_EQ(header.render(job_with("{}"), Into::header), "Bearer s3cret-canary");
  Template missing("t", "${POSTHOUSE_TEST_SECRET}");
  EXPECT_THROW(missing.read_secrets(secrets), InvalidArgument);
  Template file("t", "${file:/does/not/exist}");
  EXPECT_THROW(file.read_secrets(secrets), InvalidArgument);
}

HttpOptions options_for(std::string url) {
  HttpOptions options;
  options.key = "kinds.mail.http";
  options.url = std::move(url);
  return options;
}

std::string header_of(HttpRequest const& request, std::string const& name) {
  for (auto const& [header, value] : request.headers) {
    if (header == name) return value;
  }
  return "-";
}

TEST(HttpPlan, SaysWhatTheJobIs) {
  auto options = options_for("https://api.example.com/u/{{payload.u}}?k={{job.kind}}");
  options.headers = {{"Authorization", "Basic abcdefgh"}};
  auto const request = HttpPlan(options).request_for(job_with(R"({"u": "a b"})"));
  EXPECT_EQ(request.url.target, "/u/a%20b?k=mail");
  EXPECT_EQ(request.body, R"({"u": "a b"})");
  EXPECT_EQ(header_of(request, "Content-Type"), "application/json");
  EXPECT_EQ(header_of(request, "Idempotency-Key"), "42");
  EXPECT_EQ(header_of(request, "X-Posthouse-Job-Id"), "42");
  EXPECT_EQ(header_of(request, "X-Posthouse-Kind"), "mail");
  EXPECT_EQ(header_of(request, "X-Posthouse-Queue"), "out");
  EXPECT_EQ(header_of(request, "X-Posthouse-Attempt"), "2");
  EXPECT_EQ(header_of(request, "X-Posthouse-Token"), "7.8.9");
  options.idempotency_key = HttpOptions::IdempotencyKey::token;
  EXPECT_EQ(header_of(HttpPlan(options).request_for(job_with("{\"u\": 1}")), "Idempotency-Key"), "7.8.9");
  options.method = "GET";
  options.idempotency_key = HttpOptions::IdempotencyKey::none;
  auto const get = HttpPlan(options).request_for(job_with("{\"u\": 1}"));
  EXPECT_EQ(header_of(get, "Idempotency-Key"), "-");
  EXPECT_EQ(get.body, "");
}

TEST(HttpPlan, AJobNeverChoosesTheHostOrAnotherPath) {
  for (auto const* url :
       {"{{payload.url}}", "https://{{payload.host}}/", "https://x{{payload.h}}.example.com/",
        "http://example.com:{{payload.port}}/", "https://${HOST}/", "", "example.com", "/path",
        "https://example.com/#{{payload.x}}", "https://u:p@example.com/", "https://example.com/../x"}) {
    EXPECT_THROW(check(options_for(url)), InvalidArgument) << url;
  }
  HttpPlan const plan(options_for("https://example.com/users/{{payload.u}}/mail"));
  EXPECT_THROW(plan.request_for(job_with(R"({"u": ".."})")), CannotFill);
  EXPECT_THROW(plan.request_for(job_with(R"({"u": "."})")), CannotFill);
  EXPECT_THROW(plan.request_for(job_with(R"({"u": "a\r\nb"})")), CannotFill);
  auto const request = plan.request_for(job_with(R"({"u": "../../admin?x=@evil.com"})"));
  EXPECT_EQ(request.url.host, "example.com");
  EXPECT_EQ(request.url.target, "/users/..%2F..%2Fadmin%3Fx%3D%40evil.com/mail");
}

TEST(HttpPlan, RefusesWrongOptions) {
  auto const wrong = [](auto change) {
    auto options = options_for("https://example.com/");
    change(options);
    EXPECT_THROW(check(options), InvalidArgument);
  };
  wrong([](auto& o) { o.method = "post"; });
  wrong([](auto& o) { o.method = "CONNECT"; });
  wrong([](auto& o) { o.redirects = 11; });
  wrong([](auto& o) { o.allow_addresses = {"everything"}; });
  wrong([](auto& o) { o.headers = {{"Host", "evil.com"}}; });
  wrong([](auto& o) { o.headers = {{"content-length", "1"}}; });
  wrong([](auto& o) { o.headers = {{"Transfer-Encoding", "chunked"}}; });
  wrong([](auto& o) { o.headers = {{"X-Posthouse-Kind", "x"}}; });
  wrong([](auto& o) { o.headers = {{"A B", "x"}}; });
  wrong([](auto& o) { o.headers = {{"A:", "x"}}; });
  wrong([](auto& o) { o.headers = {{"A", "x\r\nB: y"}}; });
  wrong([](auto& o) { o.headers = {{"A", "1"}, {"a", "2"}}; });
  wrong([](auto& o) { o.headers = {{"Content-Type", "{{payload.t}}"}}; });
  wrong([](auto& o) { o.body = "{\"a\": {{payload.a}}"; });
  wrong([](auto& o) { o.body = "a={{payload.a}}"; });
  auto form = options_for("https://example.com/");
  form.headers = {{"Content-Type", "application/x-www-form-urlencoded"}};
  form.body = "a={{payload.a}}&b=1";
  EXPECT_EQ(HttpPlan(form).request_for(job_with(R"({"a": "1&c=2"})")).body, "a=1%26c%3D2&b=1");
}

TEST(HttpPlan, RedirectsLeaveSecretsBehind) {
  auto options = options_for("https://a.example/x");
  options.headers = {{"Authorization", "Bearer canary-1"}, {"Accept", "text/plain"}};
  auto const request = HttpPlan(options).request_for(job_with("{}"));
  {
    HttpPlan const plan(options);
    auto same = request;
    plan.follow(same, 307, "/y");
    EXPECT_EQ(header_of(same, "Authorization"), "Bearer canary-1");
    EXPECT_EQ(same.method, "POST");
    EXPECT_EQ(same.body, "{}");
    plan.follow(same, 302, "/z");
    EXPECT_EQ(same.method, "GET");
    EXPECT_EQ(same.body, "");
    EXPECT_EQ(header_of(same, "Content-Type"), "-");
    auto other = request;
    EXPECT_THROW(plan.follow(other, 302, "https://b.example/"), CannotFill);
    EXPECT_THROW(plan.follow(other, 302, "http://a.example/"), CannotFill);
    EXPECT_THROW(plan.follow(other, 302, "https://a.example@b.example/"), CannotFill);
    EXPECT_THROW(plan.follow(other, 302, "file:///etc/passwd"), CannotFill);
    auto port = request;
    plan.follow(port, 307, "https://a.example:8443/");
    EXPECT_EQ(header_of(port, "Authorization"), "-");
    EXPECT_EQ(header_of(port, "X-Posthouse-Job-Id"), "-");
    EXPECT_EQ(header_of(port, "Accept"), "text/plain");
  }
  options.cross_host_redirects = true;
  HttpPlan const plan(options);
  auto other = request;
  plan.follow(other, 307, "https://b.example/");
  EXPECT_EQ(other.url.host, "b.example");
  EXPECT_EQ(header_of(other, "Authorization"), "-");
  EXPECT_EQ(header_of(other, "Idempotency-Key"), "-");
  EXPECT_THROW(plan.follow(other, 307, "http://b.example/"), CannotFill);
}

TEST(HttpPlan, TakesSecretsOutOfMessages) {
  ::setenv("POSTHOUSE_TEST_SECRET", "s3cret-canary", 1);
  auto options = options_for("https://a.example/x?key=${POSTHOUSE_TEST_SECRET}");
  options.headers = {{"X-Api-Key", "another-canary"}};
  HttpPlan plan(options);
  plan.read_secrets();
  EXPECT_EQ(plan.scrubbed("you sent s3cret-canary and another-canary, s3cret-canary"), "you sent *** and ***, ***");
}

}  // namespace
}  // namespace posthouse::execute
