// SPDX-License-Identifier: Apache-2.0
// Start here: this header brings all of posthouse but for the opt-in parts (describe.hpp, adapter/pqxx.hpp,
// testing.hpp). Read client.hpp to enqueue and worker.hpp to run jobs.
#pragma once

#include <posthouse/client.hpp>
#include <posthouse/error.hpp>
#include <posthouse/job.hpp>
#include <posthouse/options.hpp>
#include <posthouse/outcome.hpp>
#include <posthouse/payload.hpp>
#include <posthouse/pool.hpp>
#include <posthouse/schedules.hpp>
#include <posthouse/schema.hpp>
#include <posthouse/transaction.hpp>
#include <posthouse/worker.hpp>
