// SPDX-License-Identifier: Apache-2.0
// The keys of `kinds.NAME.http` and of `http`.
#include "core/refuse.hpp"
#include "node/config_keys.hpp"
#include "node/config_values.hpp"

namespace posthouse::node {
namespace {

using namespace std::chrono_literals;
using std::string;

execute::HttpOptions& http(Config& config, string const& name) {
  auto& options = config.kinds[name].http;
  if (!options) {
    options.emplace();
    options->key = "kinds." + name + ".http";
  }
  return *options;
}

// Paths are in the order of the example.
Key const kHttpKeys[] = {
    {"http.listen", "", "address and port of /healthz, /readyz and /metrics; default: there are none", "127.0.0.1:9187",
     false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       c.http.address = text_value(a, v);
       if (c.http.address.empty()) core::refuse(a, "", "an address and a port, as 127.0.0.1:9187", "");
     }},
    {"http.allow_remote", "false", "true: http.listen may be an address that others can reach", "", false, false,
     [](Config& c, string const&, string const& a, Tree const& v) { c.http.allow_remote = boolean_value(a, v); }},
    {"http.allowed_hosts", "", "names that requests may call it by, beside localhost and its address",
     "[metrics.internal]", false, true,
     [](Config& c, string const&, string const& a, Tree const& v) { c.http.allowed_hosts = text_list(a, v, true); }},
    {"kinds.*.http.url", "", "http: where the request goes; path and query may have {{payload.name}} and ${VARIABLE}",
     "https://api.example.com/users/{{payload.user}}", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) { http(c, n).url = text_value(a, v); }},
    {"kinds.*.http.method", "POST", "GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS", "", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) { http(c, n).method = text_value(a, v); }},
    {"kinds.*.http.headers", "", "headers by name; values may have {{job.id}} and ${VARIABLE}",
     "{Authorization: \"Bearer ${API_TOKEN}\"}", true, true,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       if (v.kind != Tree::Kind::map) core::refuse_because(a, "is " + v.shown(), "a mapping of names to values", "");
       for (auto const& [name, value] : v.members) http(c, n).headers[name] = text_value(a + "." + name, value);
     }},
    {"kinds.*.http.body", "", "what is sent, a text or a mapping; default with POST, PUT and PATCH: the payload",
     "{user: \"{{payload.user}}\"}", false, true,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       auto body = v.kind == Tree::Kind::scalar ? text_value(a, v) : json_of(v);
       if (v.kind != Tree::Kind::scalar) {
         // "{{payload.user}}" alone is the value, whatever it is; with more around it, a text.
         for (std::size_t at = body.find("\"{{"); at != string::npos; at = body.find("\"{{", at + 1)) {
           auto const end = body.find("}}", at);
           if (end == string::npos || body.substr(end + 2, 1) != "\"") continue;
           body.erase(end + 2, 1);
           body.erase(at, 1);
         }
       }
       http(c, n).body = std::move(body);
     }},
    {"kinds.*.http.timeout", "30s", "of the whole request, redirects included, 1ms to 1d; a number is in s", "", false,
     false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       http(c, n).timeout = duration_value(a, v, 1s, 1ms, 24h);
     }},
    {"kinds.*.http.connect_timeout", "10s", "of making a connection, 1ms to 1h; a number is in s", "", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       http(c, n).connect_timeout = duration_value(a, v, 1s, 1ms, 1h);
     }},
    {"kinds.*.http.read_timeout", "30s", "of silence while reading or writing, 1ms to 1d; a number is in s", "", false,
     false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       http(c, n).read_timeout = duration_value(a, v, 1s, 1ms, 24h);
     }},
    {"kinds.*.http.max_response_bytes", "1048576", "more of an answer's body is not read, 0 to 67108864 bytes", "",
     false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       http(c, n).max_response_bytes = static_cast<std::size_t>(integer_value(a, v, 0, 64LL * 1024 * 1024));
     }},
    {"kinds.*.http.ca_file", "", "certificates to trust instead of the system's, a PEM file",
     "/etc/ssl/internal-ca.pem", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) { http(c, n).ca_file = text_value(a, v); }},
    {"kinds.*.http.allow_addresses", "",
     "addresses that are not public and may be reached all the same: loopback, private, link-local, addresses, "
     "networks",
     "[10.1.0.0/16]", false, true,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       http(c, n).allow_addresses = text_list(a, v, true);
     }},
    {"kinds.*.http.redirects", "0", "redirects that are followed, 0 to 10", "", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       http(c, n).redirects = static_cast<int>(integer_value(a, v, 0, 10));
     }},
    {"kinds.*.http.cross_host_redirects", "false", "true: also to other hosts, which get none of our headers", "",
     false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       http(c, n).cross_host_redirects = boolean_value(a, v);
     }},
    {"kinds.*.http.client_errors", "fail", "retry: answers 4xx and 3xx are tried again; fail: they end the job", "",
     false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       http(c, n).retry_client_errors = choice_value(a, v, {"fail", "retry"}) == 1;
     }},
    {"kinds.*.http.idempotency_key", "job", "header Idempotency-Key: job (its id), token (new each attempt) or none",
     "", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       http(c, n).idempotency_key =
           static_cast<execute::HttpOptions::IdempotencyKey>(choice_value(a, v, {"job", "token", "none"}));
     }},
};

}  // namespace

std::span<Key const> http_keys() { return kHttpKeys; }

void check_http(Tree const& root, Config& config, std::vector<Problem>& problems) {
  auto const problem = [&](Tree const* node, string const& key, InvalidArgument const& error) {
    auto text = string(error.what());
    if (!error.hint().empty()) text += "; " + error.hint();
    problems.push_back({node == nullptr ? "" : node->where, key, std::move(text)});
  };
  auto const* const section = root.find("http");
  if (!config.http.address.empty()) {
    try {
      monitor::check(config.http);
    } catch (InvalidArgument const& error) {
      problem(section == nullptr ? nullptr : section->find("listen"), "http.listen", error);
    }
  }
  auto const* const kinds = root.find("kinds");
  for (auto const& [name, kind] : config.kinds) {
    auto const* const node = kinds == nullptr ? nullptr : kinds->find(name);
    auto const* const own = node == nullptr ? nullptr : node->find("http");
    if (own == nullptr || own->kind != Tree::Kind::map) continue;
    try {
      auto options = kind.http.value_or(execute::HttpOptions{.key = "kinds." + name + ".http"});
      execute::check(options);
    } catch (InvalidArgument const& error) {
      problem(own, "kinds." + name + ".http", error);
    }
  }
}

}  // namespace posthouse::node
