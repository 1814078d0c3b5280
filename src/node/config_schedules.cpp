// SPDX-License-Identifier: Apache-2.0
// The keys of `schedules`. Each becomes an argument of add_schedule.
#include <algorithm>
#include <cctype>
#include <map>

#include "core/backoff.hpp"
#include "core/cron_text.hpp"
#include "core/headers_json.hpp"
#include "core/names.hpp"
#include "core/payload_check.hpp"
#include "core/refuse.hpp"
#include "core/text.hpp"
#include "core/time_format.hpp"
#include "node/config_keys.hpp"
#include "node/config_values.hpp"
#include "store/json_text.hpp"

namespace posthouse::node {
namespace {

using namespace std::chrono_literals;
using std::string;

constexpr auto kLongest = std::chrono::milliseconds(core::max_delay_ms);

void put(Config& config, string const& name, char const* argument, string json) {
  config.schedules[name].arguments[argument] = std::move(json);
}

void put_text(Config& config, string const& name, char const* argument, std::string_view text) {
  string json;
  store::append_json_string(json, text);
  put(config, name, argument, std::move(json));
}

void put_time(Config& config, string const& name, char const* argument, std::chrono::milliseconds time) {
  put_text(config, name, argument, std::to_string(time.count()) + " milliseconds");
}

void put_choice(Config& config, string const& name, char const* argument, string const& full, Tree const& value,
                std::vector<std::string_view> const& choices) {
  put_text(config, name, argument, choices.at(choice_value(full, value, choices)));
}

bool is_json_number(std::string_view text) {
  try {
    core::check_json("", text);
  } catch (InvalidArgument const&) {
    return false;
  }
  return text[0] == '-' || (text[0] >= '0' && text[0] <= '9');
}

void check_base64(string const& argument, string const& text) {
  bool right = text.size() % 4 == 0;
  auto const padding = text.size() - std::min(text.size(), text.find_last_not_of('=') + 1);
  for (std::size_t i = 0; right && i + padding < text.size(); ++i) {
    right = std::isalnum(static_cast<unsigned char>(text[i])) != 0 || text[i] == '+' || text[i] == '/';
  }
  if (!right || padding > 2) core::refuse(argument, text, "base64, as aGVsbG8=", "");
}

Key const kScheduleKeys[] = {
    {"application", "", "name under which `schedules` are declared; those of other names are never touched", "shop",
     false, false,
     [](Config& c, string const&, string const& a, Tree const& v) {
       core::check_name(a, text_value(a, v));
       c.application = v.text;
     }},
    {"schedules.*.kind", "", "kind of the jobs", "send_report", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       core::check_name(a, text_value(a, v));
       put_text(c, n, "kind", v.text);
     }},
    {"schedules.*.cron", "", "five fields, six with seconds first, or @daily and the like", "30 2 * * mon-fri", false,
     false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       core::check_cron(a, text_value(a, v));
       put_text(c, n, "cron", v.text);
     }},
    {"schedules.*.every", "", "instead of cron: 1s to 366d in whole seconds; a number is in s", "5m", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       auto const every = duration_value(a, v, 1s, 1s, 24h * 366);
       if (every % 1s != 0ms) core::refuse(a, v.text, "whole seconds", "");
       put_time(c, n, "every", every);
     }},
    {"schedules.*.at", "", "instead of cron: once, as 2030-01-31T12:00:00Z", "2030-01-31T12:00:00Z", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       put_text(c, n, "at", core::format_time(core::parse_time(a, text_value(a, v))));
     }},
    {"schedules.*.time_zone", "UTC", "of cron: an IANA name that the server knows", "Europe/Berlin", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) { put_text(c, n, "time_zone", text_value(a, v)); }},
    {"schedules.*.payload", "", "JSON: a mapping or a list, or a text that is JSON", "{page: all}", false, true,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       if (v.kind == Tree::Kind::null) return;
       auto json = v.kind == Tree::Kind::scalar ? v.text : json_of(v);
       core::check_json(a, json);
       put(c, n, "payload", std::move(json));
     }},
    {"schedules.*.payload_bytes", "", "instead of payload: bytes as base64", "aGVsbG8=", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       check_base64(a, text_value(a, v));
       put_text(c, n, "payload_bytes", v.text);
     }},
    {"schedules.*.queue", "default", "queue of the jobs", "", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       core::check_name(a, text_value(a, v));
       put_text(c, n, "queue", v.text);
     }},
    {"schedules.*.priority", "0", "higher first, -2147483648 to 2147483647", "", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       put(c, n, "priority", std::to_string(integer_value(a, v, -2147483648LL, 2147483647LL)));
     }},
    {"schedules.*.headers", "", "a mapping of names to texts, at most 16000 bytes", "{tenant: a}", false, true,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       if (v.kind != Tree::Kind::map) core::refuse_because(a, "is " + v.shown(), "a mapping of names to texts", "");
       std::map<string, string> headers;
       for (auto const& [key, value] : v.members) headers[key] = text_value(a + "." + key, value);
       put(c, n, "headers", core::headers_to_json(headers));
     }},
    {"schedules.*.max_attempts", "", "1 to 32767; default: the kind's own", "3", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       put(c, n, "max_attempts", std::to_string(integer_value(a, v, 1, 32767)));
     }},
    {"schedules.*.timeout", "", "an attempt is asked to stop after this long; a number is in s; default: the kind's",
     "10m", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       put_time(c, n, "timeout", duration_value(a, v, 1s, 1ms, kLongest));
     }},
    {"schedules.*.expires_in", "", "not started so long after its firing, a job expires; a number is in s", "1h", false,
     false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       put_time(c, n, "expires_in", duration_value(a, v, 1s, 1ms, kLongest));
     }},
    {"schedules.*.key", "", "its jobs run in turn with those of the kind with the same key; 1 to 512 bytes", "report",
     false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       core::check_key(text_value(a, v));
       put_text(c, n, "key", v.text);
     }},
    {"schedules.*.dedupe_key", "", "a tick whose key another job holds enqueues nothing; 1 to 512 bytes", "report",
     false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       core::check_dedupe_key(text_value(a, v));
       put_text(c, n, "dedupe_key", v.text);
     }},
    {"schedules.*.on_duplicate", "skip",
     "skip or replace (the tick is skipped, that job gets its payload) or error (it has failed)", "", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       put_choice(c, n, "on_duplicate", a, v, {"skip", "error", "replace"});
     }},
    {"schedules.*.dedupe_scope", "unfinished", "unfinished or until_claimed", "", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       put_choice(c, n, "dedupe_scope", a, v, {"unfinished", "until_claimed"});
     }},
    {"schedules.*.dedupe_window", "", "the key is held at least that long; a number is in s", "1h", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       put_time(c, n, "dedupe_window", duration_value(a, v, 1s, 1ms, kLongest));
     }},
    {"schedules.*.jitter", "0", "each tick is fired up to this long later, 0 to 1d; a number is in s", "", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       put_time(c, n, "jitter", duration_value(a, v, 1s, 0ms, 24h));
     }},
    {"schedules.*.misfire", "latest", "late ticks: skip, latest or all", "", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       put_choice(c, n, "misfire", a, v, {"skip", "latest", "all"});
     }},
    {"schedules.*.misfire_limit", "100", "how many of all, 1 to 1000", "", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       put(c, n, "misfire_limit", std::to_string(integer_value(a, v, 1, 1000)));
     }},
    {"schedules.*.overlap", "allow", "while an earlier job is not finished: allow, skip or replace", "", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       put_choice(c, n, "overlap", a, v, {"allow", "skip", "replace"});
     }},
    {"schedules.*.enabled", "true", "false: declared, but never fired", "", false, false,
     [](Config& c, string const& n, string const& a, Tree const& v) {
       put(c, n, "enabled", boolean_value(a, v) ? "true" : "false");
     }},
};

}  // namespace

std::span<Key const> schedule_keys() { return kScheduleKeys; }

std::string json_of(Tree const& value) {
  string json;
  switch (value.kind) {
    case Tree::Kind::null:
      return "null";
    case Tree::Kind::scalar:
      if (!value.quoted && (value.text == "true" || value.text == "false" || is_json_number(value.text))) {
        return value.text;
      }
      core::check_text("payload", value.text);
      store::append_json_string(json, value.text);
      return json;
    case Tree::Kind::list:
      for (auto const& item : value.items) json += (json.empty() ? "" : ", ") + json_of(item);
      return "[" + json + "]";
    case Tree::Kind::map:
      for (auto const& [key, member] : value.members) {
        if (!json.empty()) json += ", ";
        store::append_json_string(json, key);
        json += ": " + json_of(member);
      }
      return "{" + json + "}";
  }
  return "null";
}

void check_schedules(Tree const& root, Config& config, std::vector<Problem>& problems) {
  auto const* const nodes = root.find("schedules");
  if (!config.schedules.empty() && root.find("application") == nullptr) {
    problems.push_back({nodes == nullptr ? "" : nodes->where, "application",
                        "schedules are there but application is not; give it, the name under which they are declared"});
  }
  for (auto const& [name, schedule] : config.schedules) {
    auto const full = "schedules." + name;
    auto const& where = schedule.where;
    // By what is written, so that a value that is refused is not called missing too.
    auto const* const node = nodes == nullptr ? nullptr : nodes->find(name);
    if (node == nullptr) continue;
    auto const has = [node](char const* key) { return node->find(key) != nullptr; };
    auto const problem = [&](string const& text) { problems.push_back({where, full, full + text}); };
    if (!has("kind")) problem(" has no kind; add it");
    int const times = static_cast<int>(has("cron")) + static_cast<int>(has("every")) + static_cast<int>(has("at"));
    if (times != 1) {
      problem(" has " + string(times == 0 ? "none" : "more than one") + " of cron, every and at; allowed: one of them");
    }
    if (has("payload") && has("payload_bytes")) problem(" has both payload and payload_bytes; allowed: one of them");
    if (!has("dedupe_key") && (has("on_duplicate") || has("dedupe_scope") || has("dedupe_window"))) {
      problem(" has on_duplicate, dedupe_scope or dedupe_window without dedupe_key; add that or remove them");
    }
  }
}

}  // namespace posthouse::node
