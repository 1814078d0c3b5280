// SPDX-License-Identifier: Apache-2.0
// What limits, keys, dedupe keys, schedules and results promise (I10 to I14 of docs/internals/tests.md), judged by what
// clients and handlers of the chaos tests wrote down.
//
// Pure: no I/O. Thread safety: free functions on plain values.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "concurrency/chaos_judge.hpp"

namespace posthouse::test::chaos {

constexpr char const* feature_kinds = "plain,ledger,slow,nap,limited,keyed,unique,ticked";
constexpr int limited_at_once = 2;  ///< of kind limited, in the whole fleet

/// A run counts as certain from its start to its end when its worker kept its lease and was not asked to leave before;
/// only certain ones are held against a limit or a key. Adds to the counts of the verdict what it has looked at.
std::vector<std::string> judge_features(Evidence const& evidence, std::map<std::string, std::int64_t>& counts);

}  // namespace posthouse::test::chaos
