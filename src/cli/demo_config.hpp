// SPDX-License-Identifier: Apache-2.0
// The text of examples/demo.yaml inside the program; a test compares the two.
//
// Thread safety: constant.
#pragma once

#include <string_view>

namespace posthouse::cli {

inline constexpr std::string_view demo_config =
    R"yaml(# The handlers without code that `posthouse demo` uses. They run by themselves too:
#   posthouse work --config examples/demo.yaml
kinds:
  demo.setup:
    sql:
      - create table if not exists posthouse_demo.ledger (day date primary key, orders bigint not null)
  # Statements and the job's completion are one transaction: each order is counted once, whatever crashes.
  demo.ledger:
    sql: >-
      insert into posthouse_demo.ledger
      values (date '2030-01-01' + (current_setting('posthouse.payload')::jsonb ->> 'n')::int % 50, 1)
      on conflict (day) do update set orders = ledger.orders + 1
    timeout: 30s
    backoff: [100ms, 1s]
  # A program gets the payload on its standard input.
  demo.program:
    exec: [/bin/sh, -c, "test $(cat | wc -c) -gt 0"]
    timeout: 10s
)yaml";

}  // namespace posthouse::cli
