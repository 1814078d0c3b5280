// SPDX-License-Identifier: Apache-2.0
// What LeakSanitizer need not tell us: leaks in libraries that we cannot mend. It calls this function by itself.
// Thread safety: constant.

/// libpqxx 6.4 loses the server's answer when exec_params throws for it.
extern "C" char const* __lsan_default_suppressions();   // NOLINT(bugprone-reserved-identifier)
extern "C" char const* __lsan_default_suppressions() {  // NOLINT(bugprone-reserved-identifier)
  return "leak:pqxx::connection_base::exec_params\n";
}
