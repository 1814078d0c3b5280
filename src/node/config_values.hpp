// SPDX-License-Identifier: Apache-2.0
// From a node of the configuration to a value, or InvalidArgument that names key, value and what is allowed.
//
// Thread safety: pure functions.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <posthouse/outcome.hpp>

#include "node/config_tree.hpp"

namespace posthouse::node {

std::string const& text_value(std::string const& argument, Tree const& value);
std::int64_t integer_value(std::string const& argument, Tree const& value, std::int64_t least, std::int64_t most);
double decimal_value(std::string const& argument, Tree const& value, double least, double most);
bool boolean_value(std::string const& argument, Tree const& value);
/// A number is in `unit`; the range is checked.
std::chrono::milliseconds duration_value(std::string const& argument, Tree const& value, std::chrono::milliseconds unit,
                                         std::chrono::milliseconds least, std::chrono::milliseconds most);
/// Index of the choice.
std::size_t choice_value(std::string const& argument, Tree const& value, std::vector<std::string_view> const& choices);
/// A list of scalars, or one scalar alone when `single` says so.
std::vector<std::string> text_list(std::string const& argument, Tree const& value, bool single);
/// A duration, a list of durations, or a mapping with type, first, step, longest, jitter.
Backoff backoff_value(std::string const& argument, Tree const& value);

}  // namespace posthouse::node
