// SPDX-License-Identifier: Apache-2.0
// The files of sql/migrations and sql/functions as they were at build time, in the order of their names.
//
// Thread safety: constants.
#pragma once

#include <span>
#include <string_view>

namespace posthouse::store {

struct SqlFile {
  std::string_view name;  ///< without folder, as 0001_core.sql
  std::string_view text;
};

std::span<SqlFile const> migrations();
std::span<SqlFile const> functions();

}  // namespace posthouse::store
